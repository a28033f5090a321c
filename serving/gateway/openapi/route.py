"""/openapi.json: the document of this very application."""

from __future__ import annotations

from litestar import Response, get

from serving.gateway.access import PUBLIC
from serving.gateway.exchange import AnyRequest, gateway_of, respond
from serving.gateway.openapi.document import describe
from serving.gateway.openapi.operation import OPERATION, Operation


@get("/openapi.json", opt={PUBLIC: True, OPERATION: Operation(answer=dict)})
async def openapi(request: AnyRequest) -> Response[bytes]:
    """This document: every route, body, answer and error, for programs."""
    state = request.app.state
    if "openapi" not in state:
        state["openapi"] = await gateway_of(request).in_thread(describe, request.app)
    return respond(state["openapi"])


ROUTES = [openapi]
