"""Errors to HTTP: one table from error kind to status, OpenAI's envelope under /v1, RFC 9457 problems elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from msgspec import UNSET

from registry.errors import Busy, Conflict, Corrupt, Invalid, LorimerError, NotFound, Refused, Unavailable
from serving.gateway.trace import trace_of
from serving.gateway.wire.error import ErrorDetail, ErrorEnvelope, Problem
from serving.quarantine import Quarantined


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How one kind of error looks from outside. `can_retry` False tells clients that a retry cannot help."""

    status: int
    type: str
    code: str | None
    can_retry: bool


TABLE: Mapping[type[LorimerError], Shape] = {
    NotFound: Shape(status=404, type="not_found_error", code="not_found", can_retry=False),
    Conflict: Shape(status=409, type="conflict_error", code="conflict", can_retry=False),
    Invalid: Shape(status=400, type="invalid_request_error", code=None, can_retry=False),
    Refused: Shape(status=403, type="permission_error", code="refused", can_retry=False),
    Busy: Shape(status=503, type="overloaded_error", code="overloaded", can_retry=True),
    Unavailable: Shape(status=503, type="unavailable_error", code="unavailable", can_retry=True),
    Corrupt: Shape(status=500, type="server_error", code="corrupt", can_retry=False),
    LorimerError: Shape(status=500, type="server_error", code="error", can_retry=False),
}
UNEXPECTED = Shape(status=500, type="server_error", code="internal_error", can_retry=False)
UNAVAILABLE_RETRY_S = 1
GONE = 499
LimitedBy = Literal["requests", "tokens"]
"""Which budget is used up; OpenAI tells it as the error's `type`."""


class ModelNotFound(NotFound):
    """The `model` of a request names nothing this tenant has."""


class Unauthorized(Refused):
    """No credential, or one that opens nothing: then it is said to be `invalid`."""

    def __init__(self, message: str, *, hint: str = "", invalid: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.challenge = 'Bearer error="invalid_token"' if invalid else "Bearer"


class Forbidden(Refused):
    """The caller is known, and lacks the scope; one of `scopes` would do."""

    def __init__(self, message: str, *, hint: str = "", scopes: Sequence[str] = ()) -> None:
        super().__init__(message, hint=hint)
        named = f', scope="{" ".join(scopes)}"' if scopes else ""
        self.challenge = f'Bearer error="insufficient_scope"{named}'


class ModelForbidden(Refused):
    """The caller is known, and limited to other models."""


class RateLimited(Busy):
    """The caller has used up what it may use for now."""

    def __init__(self, message: str, *, hint: str = "", budget: LimitedBy, retry_after_s: float) -> None:
        super().__init__(message, hint=hint, retry_after_s=retry_after_s)
        self.budget = budget


class RequestTooLarge(LorimerError):
    """More than the caller may ever use at once."""


class DeadlinePassed(LorimerError):
    """The time in which the caller wanted its answer is over."""


class Gone(LorimerError):
    """The client hung up; nobody reads the answer."""


SHAPES: Mapping[type[LorimerError], Shape] = {
    ModelNotFound: Shape(status=404, type="invalid_request_error", code="model_not_found", can_retry=False),
    Unauthorized: Shape(status=401, type="authentication_error", code="invalid_api_key", can_retry=False),
    Forbidden: Shape(status=403, type="permission_error", code="insufficient_scope", can_retry=False),
    ModelForbidden: Shape(status=403, type="permission_error", code="model_not_allowed", can_retry=False),
    Quarantined: Shape(status=503, type="unavailable_error", code="adapter_quarantined", can_retry=False),
    RateLimited: Shape(status=429, type="requests", code="rate_limit_exceeded", can_retry=True),
    RequestTooLarge: Shape(status=429, type="tokens", code="rate_limit_exceeded", can_retry=False),
    DeadlinePassed: Shape(status=504, type="timeout_error", code="deadline_exceeded", can_retry=False),
    Gone: Shape(status=GONE, type="client_closed_request", code="client_closed_request", can_retry=False),
    **TABLE,
}


def shape_of(error: BaseException) -> Shape:
    """The nearest class of the error that the table knows."""
    return next((SHAPES[kind] for kind in type(error).__mro__ if kind in SHAPES), UNEXPECTED)


def envelope(error: BaseException) -> ErrorEnvelope:
    """OpenAI's error document; what we did not foresee says nothing of its inside."""
    shape = shape_of(error)
    code = (error.code if isinstance(error, Invalid) else None) or shape.code
    if isinstance(error, ModelNotFound):
        param: str | None = "model"
    else:
        param = error.param if isinstance(error, Invalid) else None
    kind = error.budget if isinstance(error, RateLimited) else shape.type
    return ErrorEnvelope(error=ErrorDetail(message=_message(error), type=kind, param=param, code=code))


def _message(error: BaseException) -> str:
    return str(error) if isinstance(error, LorimerError) else "the server met an unexpected error"


def handle(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Litestar's exception handler for every route."""
    under_v1 = request.scope["path"].startswith("/v1/")
    trace_of(request).failure = error
    if under_v1 and not isinstance(error, HTTPException):
        told = envelope(error).error
        request.app.state.gateway.metrics.rejects.labels(told.code or told.type).inc()
    return answer(error, under_v1)


def answer(error: Exception, under_v1: bool) -> Response[bytes]:
    """The error as it is told: status, document and headers."""
    if isinstance(error, HTTPException):
        return _framework(error, under_v1)
    shape = shape_of(error)
    if under_v1:
        return _respond(shape.status, envelope(error), "application/json", _headers(error, shape))
    return _respond(shape.status, _problem(error, shape), "application/problem+json", _headers(error, shape))


def _headers(error: Exception, shape: Shape) -> dict[str, str]:
    if isinstance(error, Unauthorized | Forbidden):
        return {"www-authenticate": error.challenge, "x-should-retry": "false"}
    if not shape.can_retry:
        return {"x-should-retry": "false"}
    wait_s = error.retry_after_s if isinstance(error, Busy) else UNAVAILABLE_RETRY_S
    return {"retry-after": str(max(1, math.ceil(wait_s)))}


def _problem(error: Exception, shape: Shape) -> Problem:
    return Problem(
        title=_phrase(shape.status),
        status=shape.status,
        detail=_message(error),
        kind=error.kind if isinstance(error, LorimerError) else "internal_error",
        param=(isinstance(error, Invalid) and error.param) or UNSET,
        actual=error.actual if isinstance(error, Conflict) and error.actual is not None else UNSET,
    )


def _phrase(status: int) -> str:
    """499, a client that hung up, has no phrase in the standard."""
    return "Client Closed Request" if status == GONE else HTTPStatus(status).phrase


def _framework(error: HTTPException, under_v1: bool) -> Response[bytes]:
    """Unknown paths, wrong methods, bodies over the limit: found by the framework before a handler ran."""
    status = error.status_code
    phrase = HTTPStatus(status).phrase
    headers = {"x-should-retry": "false", **(error.headers or {})}
    if not under_v1:
        problem = Problem(title=phrase, status=status, detail=error.detail or phrase)
        return _respond(status, problem, "application/problem+json", headers)
    code = phrase.lower().replace(" ", "_")
    kind = "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
    detail = ErrorDetail(message=error.detail or phrase, type=kind, param=None, code=code)
    return _respond(status, ErrorEnvelope(error=detail), "application/json", headers)


def _respond(status: int, document: object, media_type: str, headers: dict[str, str]) -> Response[bytes]:
    return Response(
        msgspec.json.encode(document, enc_hook=str), status_code=status, media_type=media_type, headers=headers
    )
