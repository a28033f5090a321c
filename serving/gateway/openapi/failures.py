"""The errors that a route may answer with: what each status means, and an example that the gateway itself wrote.

Knows statuses and errors; which of them a route has is decided in `document`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from litestar.exceptions import HTTPException

from registry.errors import Busy, Conflict, Corrupt, Invalid, NotFound
from serving.gateway.errors import (
    DeadlinePassed,
    Forbidden,
    Gone,
    ModelNotFound,
    RateLimited,
    Unauthorized,
    answer,
)
from serving.gateway.openapi import headers

UNDER_V1 = "/v1/"


@dataclass(frozen=True)
class Failure:
    meaning: str
    example: Exception
    elsewhere: Exception | None = None
    """The example outside /v1, where it differs."""


FAILURES = {
    400: Failure(
        "The body or a parameter is not what this document says, or asks for what cannot be done; `param` names it.",
        Invalid("Expected `float` <= 2.0 at temperature", param="temperature", code="invalid_value"),
        Invalid("Object missing required field `to`", param="to", code="invalid_value"),
    ),
    401: Failure("No credential, or one that is not known, expired or revoked.", Unauthorized("this key is not known")),
    403: Failure(
        "The credential is valid and may not do this.",
        Forbidden("this needs the scope promote; the scopes of key:k1 are: infer"),
    ),
    404: Failure(
        "There is no such thing, or it is another tenant's.",
        ModelNotFound("no adapter 'poet'"),
        NotFound("no adapter 'poet'"),
    ),
    409: Failure(
        "Somebody else changed it first: `actual` is what it is now.",
        Conflict("prod is not at v1", actual="v2"),
    ),
    413: Failure("The body is larger than the gateway takes.", HTTPException(status_code=413)),
    415: Failure(
        "The body is not declared as what the route takes: JSON, or for files a form.",
        HTTPException(status_code=415, detail="the content-type must be application/json"),
    ),
    429: Failure(
        "The key has used up its requests or tokens of this minute, or its places; `retry-after` says when it has not.",
        RateLimited("this key may make 60 requests a minute", budget="requests", retry_after_s=1),
    ),
    499: Failure(
        "The client hung up before the answer was complete; nobody reads this, but logs and metrics show it.",
        Gone("the client hung up before the answer was complete"),
    ),
    500: Failure("A fault of the gateway's own, or damaged bytes in the bucket.", Corrupt("stored bytes are damaged")),
    503: Failure(
        "No room, draining, or a part does not answer; with `retry-after` where waiting helps.",
        Busy("the queue is full", retry_after_s=2),
    ),
    504: Failure(
        "The time that `x-request-timeout` gave is over.",
        DeadlinePassed("the request was not answered within 2 s"),
    ),
}

_HEADERS = {401: ("www-authenticate", "x-should-retry"), 429: ("retry-after",), 503: ("retry-after",)}


def responses() -> dict[str, dict[str, Any]]:
    """Every error response, under /v1 and elsewhere, by the name under which operations refer to it."""
    return {
        _name(status, under_v1): _response(status, known, under_v1)
        for under_v1 in (True, False)
        for status, known in FAILURES.items()
    }


def reference(status: int, path: str) -> dict[str, str]:
    """What an operation says of a status that it may answer with."""
    return {"$ref": f"#/components/responses/{_name(status, path.startswith(UNDER_V1))}"}


def either(status: int, own: dict[str, Any]) -> dict[str, Any]:
    """A response of a route under /v1 that has a document of its own for some errors of that status."""
    usual = _response(status, FAILURES[status], under_v1=True)
    ((media_type, content),) = usual["content"].items()
    return {**usual, "content": {media_type: {**content, "schema": {"anyOf": [own, content["schema"]]}}}}


def _name(status: int, under_v1: bool) -> str:
    return f"{'Error' if under_v1 else 'Problem'}{status}"


def _response(status: int, known: Failure, under_v1: bool) -> dict[str, Any]:
    told = answer(known.example if under_v1 or known.elsewhere is None else known.elsewhere, under_v1)
    assert told.status_code == status, f"{status}: the example is told as {told.status_code}"
    schema = "ErrorEnvelope" if under_v1 else "Problem"
    return {
        "description": known.meaning,
        "headers": headers.references("x-request-id", *_HEADERS.get(status, ("x-should-retry",))),
        "content": {
            str(told.media_type): {
                "schema": {"$ref": f"#/components/schemas/{schema}"},
                "example": msgspec.json.decode(told.content),
            }
        },
    }
