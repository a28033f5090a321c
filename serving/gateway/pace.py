"""The bytes of a request as they come and go; who is too slow or breaks off is not waited for. Knows no route."""

from __future__ import annotations

import asyncio
from asyncio import timeout
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from litestar.exceptions import HTTPException
from litestar.types import Message, Receive, ReceiveMessage, Send

from serving.gateway.alarm import Alarm
from serving.gateway.errors import Gone
from serving.gateway.trace import Trace


@dataclass(frozen=True)
class Patience:
    """`body_s`: from arrival until the whole body is here. `stall_s`: how long a client may take nothing at all."""

    body_s: float
    stall_s: float


@dataclass(eq=False)
class Exchange:
    """Receives and sends for one request, in its application's stead. `headers` go out with whatever is answered."""

    receive_next: Receive
    send_next: Send
    trace: Trace
    patience: Patience
    headers: Mapping[str, str]
    status: int = 0
    body_over: bool = False
    num_bytes: int = 0
    """Of the body, so far."""
    _stall: Alarm = field(init=False)
    _sending: asyncio.Task[Any] | None = None
    _has_stalled: bool = False

    def __post_init__(self) -> None:
        self._stall = Alarm(self._give_up, asyncio.get_running_loop())

    async def receive(self) -> ReceiveMessage:
        """Nothing but `http.disconnect` comes once the body is over; before that it is an error."""
        if self.body_over:
            return await self.receive_next()
        allowed_s = self.patience.body_s + self.num_bytes / self.trace.bytes_per_s
        try:
            async with timeout(min(allowed_s - self.trace.elapsed_s(), self.patience.body_s)):
                message = await self.receive_next()
        except TimeoutError as error:
            self.body_over = True
            told = f"the body did not arrive within {allowed_s:.4g} s"
            raise HTTPException(status_code=408, detail=told, headers={"connection": "close"}) from error
        if message["type"] != "http.request":
            self.body_over = True
            told = "the body broke off, or is not as long as its headers say"
            raise HTTPException(status_code=400, detail=told, headers={"connection": "close"})
        self.num_bytes += len(message["body"])
        self.body_over = not message["more_body"]
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._stall.watch(self.patience.stall_s)
            ours = {"x-request-id": self.trace.request_id, **self.headers, **self.trace.headers}
            message["headers"] = [*message["headers"], *((_raw(name), _raw(value)) for name, value in ours.items())]
        self._sending = asyncio.current_task()
        self._stall.signs += 1
        try:
            await self.send_next(message)
        except asyncio.CancelledError as error:
            if not self._has_stalled or self._sending is None or self._sending.uncancel():
                raise
            self.trace.failure = Gone("the client stopped taking its answer")
            raise self.trace.failure from error
        finally:
            self._sending = None

    def close(self) -> None:
        """Nothing will be sent or received any more. The server hangs up on a body that was not read to its end only
        once nobody holds these, and an error's frames may hold this until garbage is collected."""
        self._stall.close()
        self.receive_next = self.send_next = _nobody

    def _give_up(self) -> None:
        if self._sending is not None and not self._has_stalled:
            self._has_stalled = True
            self._sending.cancel()


async def _nobody(*_: object) -> Any:
    raise Gone("the exchange is over")


def _raw(text: str) -> bytes:
    return text.encode("latin-1")
