"""The outermost ASGI layer: request ids, in-flight count, one line in the log for each. Knows no routes."""

from __future__ import annotations

import math
import time
from asyncio import timeout
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from serving.gateway.pace import Exchange, Patience
from serving.gateway.request_line import QUIET, RequestLog
from serving.gateway.trace import KEY, begin

SWALLOW_BYTES = 64 << 20
SWALLOW_S = 5.0


class Entrance:
    """Wraps the application, so that even an unknown path is counted, named and logged. `clock` is monotonic."""

    def __init__(
        self,
        app: ASGIApp,
        log: RequestLog,
        patience: Patience,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._log = log
        self._patience = patience
        self._clock = clock
        self._latest = -math.inf
        self.in_flight = 0
        self.closing = False
        """Whether connections are closed after the next answer, so that nobody relies on them."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), None)
        trace = begin(None if given is None else given.decode("latin-1"))
        scope.setdefault("state", {})[KEY] = trace
        exchange = Exchange(receive, send, trace, self._patience, {"connection": "close"} if self.closing else {})
        if scope["path"] not in QUIET:
            self._latest = self._clock()
        self.in_flight += 1
        try:
            await self._app(_as_routed(scope), exchange.receive, exchange.send)
            if exchange.status >= HTTPStatus.BAD_REQUEST and not exchange.body_over:
                await _swallow(receive)
        except BaseException as error:
            trace.failure = trace.failure or error
            raise
        finally:
            exchange.close()
            self.in_flight -= 1
            if trace.at_end is not None:
                trace.at_end()
            self._log.write(scope, trace, exchange.status)

    def quiet_s(self) -> float:
        """Seconds since a request came that was no probe."""
        return self._clock() - self._latest


def _as_routed(scope: Scope) -> Scope:
    """HEAD is a GET whose body the server leaves out."""
    return {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope  # type: ignore[return-value, typeddict-item]


async def _swallow(receive: Receive) -> None:
    """Read on after an early refusal: a client that is still sending would else see a reset, not the answer."""
    num_bytes = 0
    with suppress(TimeoutError):
        async with timeout(SWALLOW_S):
            while num_bytes < SWALLOW_BYTES:
                message = await receive()
                if message["type"] != "http.request" or not message["more_body"]:
                    return
                num_bytes += len(message["body"])
