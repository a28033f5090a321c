"""What is told of a request when it is over: one line of the log, and one more in the count of its route.

Identity, outcome and timings. Never a word of what was asked or answered: messages of refusals may quote the body, so
only their kind, code and parameter are told; those of our own failures speak of stores and adapters.
"""

from __future__ import annotations

import re
from asyncio import CancelledError
from http import HTTPMethod, HTTPStatus
from typing import Any

from litestar.exceptions import HTTPException
from prometheus_client import Counter
from structlog.typing import FilteringBoundLogger

from registry.errors import Invalid, LorimerError
from serving.gateway.errors import envelope, shape_of
from serving.gateway.principal import KEY as PRINCIPAL
from serving.gateway.trace import TRACE_ID, Trace

QUIET = frozenset({"/health", "/ready", "/metrics"})
"""Paths that machines poll; they are logged only when they fail."""
UNKNOWN = "(none)"
"""How requests are counted that no route is for."""
MAX_PATH = 200
MAX_MESSAGE = 500
_PARAM = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}")
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
_METHODS = frozenset(HTTPMethod)


class RequestLog:
    """`requests` counts by method, route and status."""

    def __init__(self, log: FilteringBoundLogger, requests: Counter | None = None) -> None:
        self._log = log
        self._requests = requests

    def write(self, scope: Any, trace: Trace, status: int) -> None:
        """`status` 0: nothing was answered."""
        route = scope.get("path_template") or UNKNOWN
        if self._requests is not None:
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._requests.labels(method, route, str(status)).inc()
        if scope["path"] in QUIET and status < HTTPStatus.BAD_REQUEST:
            return
        if not _foreseen(trace.failure):
            self._log.error("unexpected error", request_id=trace.request_id, exc_info=trace.failure)
        timings = {f"{stage}_ms": round(1000 * seconds, 1) for stage, seconds in trace.seconds.items()}
        self._log.info(
            "request",
            request_id=trace.request_id,
            **_trace_id(scope),
            **_caller(scope),
            method=scope["method"][:16],
            route=route,
            path=scope["path"][:MAX_PATH],
            status=status,
            total_ms=round(1000 * trace.elapsed_s(), 1),
            **trace.fields,
            **timings,
            **_failure(trace.failure),
        )


def _trace_id(scope: Any) -> dict[str, str]:
    """Ours, or where we do not trace the caller's, so that its traces and our lines are found by each other."""
    if (ours := scope["state"].get(TRACE_ID)) is not None:
        return {"trace_id": ours}
    given = next((value for name, value in scope["headers"] if name == b"traceparent"), b"")
    found = _TRACEPARENT.fullmatch(given)
    return {} if found is None else {"trace_id": found[1].decode("ascii")}


def _caller(scope: Any) -> dict[str, str]:
    """Empty where nobody was let in."""
    principal = scope["state"].get(PRINCIPAL)
    return {} if principal is None else {"tenant": principal.tenant, "key": principal.id}


def _foreseen(failure: BaseException | None) -> bool:
    return failure is None or isinstance(failure, LorimerError | HTTPException | CancelledError)


def _failure(failure: BaseException | None) -> dict[str, str]:
    if failure is None:
        return {}
    told = {"error": type(failure).__name__}
    if isinstance(failure, LorimerError):
        told |= {"code": envelope(failure).error.code or failure.kind}
        if shape_of(failure).status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            told["error"] += f": {failure}"[:MAX_MESSAGE]
        if isinstance(failure, Invalid) and failure.param and _PARAM.fullmatch(failure.param):
            told["param"] = failure.param
    return told
