"""The outermost layer alone, around applications that do what ours must not."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import pytest

from registry.errors import Unavailable
from serving.gateway.entrance import Entrance
from serving.gateway.logs import request_log
from serving.gateway.pace import Patience
from serving.gateway.request_line import RequestLog


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


@pytest.mark.parametrize("given", [b"", b"a b", b"x" * 129, b"\xff", b"line\r\nbreak"])
def test_an_id_unfit_for_a_log_is_replaced(given: bytes) -> None:
    sent, _ = run(answering(200), headers=((b"x-request-id", given),))
    assert sent[0]["headers"][0][1].startswith(b"req-")
