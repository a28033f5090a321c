"""The table from error kind to HTTP, as callers may rely on it."""

from __future__ import annotations

import pytest

from registry.errors import Busy, Conflict, Corrupt, Invalid, LorimerError, NotFound, Refused, Unavailable
from serving.gateway.errors import (
    SHAPES,
    TABLE,
    DeadlinePassed,
    ModelNotFound,
    RateLimited,
    RequestTooLarge,
    Unauthorized,
    envelope,
    shape_of,
)
from serving.quarantine import Quarantined


@pytest.mark.parametrize(
    ("error", "status", "type_", "code", "param"),
    [
        (NotFound("x"), 404, "not_found_error", "not_found", None),
        (ModelNotFound("x"), 404, "invalid_request_error", "model_not_found", "model"),
        (Conflict("x"), 409, "conflict_error", "conflict", None),
        (Invalid("x", param="top_p"), 400, "invalid_request_error", None, "top_p"),
        (
            Invalid("x", code="context_length_exceeded"),
            400,
            "invalid_request_error",
            "context_length_exceeded",
            None,
        ),
        (Refused("x"), 403, "permission_error", "refused", None),
        (Unauthorized("x"), 401, "authentication_error", "invalid_api_key", None),
        (Busy("x"), 503, "overloaded_error", "overloaded", None),
        (RateLimited("x", budget="requests", retry_after_s=2), 429, "requests", "rate_limit_exceeded", None),
        (RateLimited("x", budget="tokens", retry_after_s=2), 429, "tokens", "rate_limit_exceeded", None),
        (RequestTooLarge("x"), 429, "tokens", "rate_limit_exceeded", None),
        (DeadlinePassed("x"), 504, "timeout_error", "deadline_exceeded", None),
        (Quarantined("x"), 503, "unavailable_error", "adapter_quarantined", None),
        (Unavailable("x"), 503, "unavailable_error", "unavailable", None),
        (Corrupt("x"), 500, "server_error", "corrupt", None),
        (LorimerError("x"), 500, "server_error", "error", None),
        (ZeroDivisionError("secret inside"), 500, "server_error", "internal_error", None),
    ],
)
def test_the_table(error: Exception, status: int, type_: str, code: str | None, param: str | None) -> None:
    detail = envelope(error).error
    assert (shape_of(error).status, detail.type, detail.code, detail.param) == (status, type_, code, param)


def test_every_kind_of_error_has_its_row() -> None:
    assert set(TABLE) == {LorimerError, *LorimerError.__subclasses__()} - {
        kind for kind in LorimerError.__subclasses__() if kind.__module__ != "registry.errors"
    }


def test_an_unforeseen_error_does_not_show_its_inside() -> None:
    assert "secret" not in envelope(ZeroDivisionError("secret inside")).error.message


def test_only_what_may_pass_can_be_retried() -> None:
    assert {kind for kind, shape in SHAPES.items() if shape.can_retry} == {Busy, RateLimited, Unavailable}
