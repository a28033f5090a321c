"""One HTTP exchange: the request's gateway, its JSON body as a struct, a document as the response. Knows no route."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException

from serving.gateway.bodies import parse

if TYPE_CHECKING:
    from serving.gateway.gateway import Gateway

T = TypeVar("T")
AnyRequest: TypeAlias = Request[Any, Any, Any]


def gateway_of(request: AnyRequest) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway


async def read(request: AnyRequest, kind: type[T]) -> T:
    """The body as a `kind`. Requiring JSON's content type keeps web pages of other origins from posting here."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise HTTPException(status_code=415, detail="the content-type must be application/json")
    return parse(await request.body(), kind)


def respond(document: object, headers: Mapping[str, str] | None = None) -> Response[bytes]:
    return Response(msgspec.json.encode(document), media_type="application/json", headers=headers)
