"""The outermost layer alone, around applications that do what ours must not."""

from __future__ import annotations

import asyncio
import gc
import io
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from litestar import Litestar, get
from litestar.exceptions import LitestarException
from litestar.response import Stream

from registry.errors import Unavailable
from serving.gateway.asking import streamed
from serving.gateway.entrance import Entrance
from serving.gateway.exchange import AnyRequest
from serving.gateway.logs import request_log
from serving.gateway.pace import Patience
from serving.gateway.request_line import RequestLog
from serving.gateway.trace import trace_of


def run(app: Any, path: str = "/v1/x", headers: tuple[tuple[bytes, bytes], ...] = ()) -> tuple[list[Any], list[Any]]:
    """What was sent, and what was logged."""
    sent: list[Any] = []
    stream = io.StringIO()
    entrance = Entrance(app, RequestLog(request_log(stream)), Patience(body_s=1.0, stall_s=1.0))

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    scope: Any = {"type": "http", "method": "GET", "path": path, "headers": list(headers)}
    try:
        asyncio.run(entrance(scope, receive, send))
    finally:
        assert entrance.in_flight == 0
    return sent, [json.loads(line) for line in stream.getvalue().splitlines()]


def answering(status: int, failure: Exception | None = None) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["state"]["trace"].failure = failure
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return app


def test_one_line_for_one_request() -> None:
    sent, (line,) = run(answering(200), headers=((b"x-request-id", b"abc"),))
    assert sent[0]["headers"] == [(b"x-request-id", b"abc")]
    assert (line["event"], line["request_id"], line["status"], line["path"]) == ("request", "abc", 200, "/v1/x")


def test_probes_are_logged_only_when_they_fail() -> None:
    assert run(answering(200), "/ready")[1] == []
    assert len(run(answering(503), "/ready")[1]) == 1


def test_only_the_unforeseen_leaves_a_traceback_in_the_log() -> None:
    unforeseen, line = run(answering(500, ZeroDivisionError("x")))[1]
    assert "ZeroDivisionError" in unforeseen["exception"]
    assert line["status"] == 500
    (line,) = run(answering(503, Unavailable("the store does not answer")))[1]
    assert "the store does not answer" in line["error"]


def test_a_request_that_dies_is_counted_out_and_logged() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(app)


@pytest.mark.parametrize("hangs_up", [False, True])
def test_a_stream_that_is_broken_off_frees_its_rows_at_once(*, hangs_up: bool) -> None:
    """A generator that waits at a `yield` ends when it is collected, which may take as long as it likes."""
    freed: list[bool] = []
    body = [{"type": "http.request", "body": b"", "more_body": False}]
    gone = asyncio.Event()

    async def events() -> AsyncIterator[bytes]:
        while True:
            yield b"data: {}\n\n"

    @get("/v1/x")
    async def stream(request: AnyRequest) -> Stream:
        generation = SimpleNamespace(abort=lambda: freed.append(True))
        call: Any = SimpleNamespace(trace=trace_of(request), generation=generation, headers=dict)
        return streamed(call, events())

    async def send(message: Any) -> None:
        if message.get("body"):
            if hangs_up:
                gone.set()
            await asyncio.Event().wait()

    async def receive() -> Any:
        if body:
            return body.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def serve() -> None:
        app = Litestar([stream], logging_config=None, openapi_config=None)
        patience = Patience(body_s=1.0, stall_s=1.0 if hangs_up else 0.05)
        with suppress(LitestarException):
            await Entrance(app, RequestLog(request_log(io.StringIO())), patience)(scope, receive, send)

    scope: Any = {
        "type": "http", "http_version": "1.1", "method": "GET", "path": "/v1/x", "raw_path": b"/v1/x", "root_path": "",
        "query_string": b"", "headers": [], "state": {},
    }  # fmt: skip
    gc.disable()
    try:
        asyncio.run(serve())
        assert freed
    finally:
        gc.enable()


@pytest.mark.parametrize("given", [b"", b"a b", b"x" * 129, b"\xff", b"line\r\nbreak"])
def test_an_id_unfit_for_a_log_is_replaced(given: bytes) -> None:
    sent, _ = run(answering(200), headers=((b"x-request-id", given),))
    assert sent[0]["headers"][0][1].startswith(b"req-")
