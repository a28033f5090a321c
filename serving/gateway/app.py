"""The HTTP application: routes, the guard on all of them, and how errors are told. Holds no logic of its own."""

from __future__ import annotations

from litestar import Litestar
from litestar.datastructures import State

from registry.errors import LorimerError
from serving.gateway import api, operations, v1
from serving.gateway.access import authorise
from serving.gateway.errors import handle
from serving.gateway.gateway import Gateway


def create_app(gateway: Gateway) -> Litestar:
    return Litestar(
        route_handlers=[*v1.ROUTES, *api.ROUTES, *operations.ROUTES],
        guards=[authorise],
        exception_handlers={Exception: handle, LorimerError: handle},
        request_max_body_size=gateway.settings.max_body,
        logging_config=None,
        openapi_config=None,
        state=State({"gateway": gateway}),
    )
