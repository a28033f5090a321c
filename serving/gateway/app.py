"""The HTTP application: routes, the guard on all of them, and how errors are told. Holds no logic of its own."""

from __future__ import annotations

from litestar import Litestar
from litestar.datastructures import State

from registry.errors import LorimerError
from serving.gateway import api, audit_route, capture_routes, embeddings, lora_verbs, operations, tokens, v1
from serving.gateway.access import authorise, check_routes
from serving.gateway.auditing import record_failure
from serving.gateway.errors import handle
from serving.gateway.files import route as files
from serving.gateway.fine_tuning import route as fine_tuning
from serving.gateway.gateway import Gateway
from serving.gateway.openapi import route
from serving.gateway.options import options
from serving.gateway.responses import route as responses

ROUTES = [
    *v1.ROUTES,
    *responses.ROUTES,
    *embeddings.ROUTES,
    *tokens.ROUTES,
    *lora_verbs.ROUTES,
    *files.ROUTES,
    *fine_tuning.ROUTES,
    *api.ROUTES,
    *audit_route.ROUTES,
    *capture_routes.ROUTES,
    *operations.ROUTES,
    *route.ROUTES,
]


def create_app(gateway: Gateway) -> Litestar:
    app = Litestar(
        route_handlers=[*options(ROUTES), *ROUTES],
        guards=[authorise],
        after_exception=[record_failure],
        exception_handlers={Exception: handle, LorimerError: handle},
        request_max_body_size=gateway.settings.max_body,
        logging_config=None,
        openapi_config=None,
        state=State({"gateway": gateway}),
    )
    check_routes(app)
    return app
