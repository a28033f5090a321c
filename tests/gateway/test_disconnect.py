"""Whoever hangs up frees the row at once, in whatever state the request is, streaming or not."""

from __future__ import annotations

import json
import socket
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tests.gateway.test_admission import LONG, busy, settle

if TYPE_CHECKING:
    from tests.gateway.conftest import Running

WITHIN_S = 0.1
JSON = "content-type: application/json\r\n"


def connect(running: Running, **fields: Any) -> socket.socket:
    body = json.dumps({"model": running.base_name, "prompt": "x", **LONG, **fields}).encode()
    connection = socket.create_connection((running.server.host, running.server.port), timeout=10)
    send(connection, body)
    return connection


def send(connection: socket.socket, body: bytes) -> None:
    head = f"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\n{JSON}content-length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)


def wait(holds: Callable[[], bool], within_s: float = 10.0) -> float:
    """Seconds until it holds."""
    since = time.monotonic()
    while not holds():
        assert time.monotonic() - since < within_s
        time.sleep(0.0005)
    return time.monotonic() - since


def rows(running: Running) -> tuple[int, int, int]:
    stats = running.gateway.engine.stats()
    return stats.running, stats.waiting, running.gateway.admission.places.open


@pytest.mark.parametrize("stream", [False, True])
def test_a_running_row_is_freed(running: Running, stream: bool) -> None:
    settle(running)
    took = []
    for _ in range(5):
        connection = connect(running, stream=stream)
        wait(lambda: rows(running)[0] == 1)
        if stream:
            assert b" 200 " in connection.recv(100)
        connection.close()
        took.append(wait(lambda: rows(running) == (0, 0, 0)))
    assert statistics.median(took) < WITHIN_S


@pytest.mark.parametrize("stream", [False, True])
def test_many_rows_of_one_request_are_freed_together(running: Running, stream: bool) -> None:
    settle(running)
    took = []
    for _ in range(5):
        connection = connect(running, stream=stream, n=16)
        wait(lambda: rows(running)[0] == 16)
        connection.close()
        took.append(wait(lambda: rows(running) == (0, 0, 0)))
    assert statistics.median(took) < WITHIN_S


@pytest.mark.parametrize("stream", [False, True])
def test_a_waiting_row_is_freed(start: Callable[..., Running], stream: bool) -> None:
    running = start(max_batch=1, max_waiting=4)
    took = []
    with busy(running, 1):
        for _ in range(5):
            connection = connect(running, stream=stream)
            wait(lambda: rows(running) == (1, 1, 2))
            connection.close()
            took.append(wait(lambda: rows(running) == (1, 0, 1)))
    assert statistics.median(took) < WITHIN_S


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_whose_adapter_is_loading_is_freed(
    start: Callable[..., Running], stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from concurrent.futures import Future

    running = start()
    running.publish("slow", 3)
    monkeypatch.setattr(running.gateway.residency, "request", lambda *_: Future())
    took = []
    for _ in range(5):
        connection = connect(running, stream=stream, model="slow")
        wait(lambda: rows(running)[2] == 1)
        time.sleep(0.05)
        connection.close()
        took.append(wait(lambda: rows(running) == (0, 0, 0)))
    assert statistics.median(took) < WITHIN_S


def test_half_a_hang_up_is_one(running: Running) -> None:
    """A client that will send no more but reads on is answered."""
    settle(running)
    connection = connect(running, max_tokens=3)
    connection.shutdown(socket.SHUT_WR)
    answer = connection.recv(65_536)
    connection.close()
    assert answer == b"" or b" 200 " in answer
    settle(running)


def test_a_client_that_reads_nothing_is_given_up(start: Callable[..., Running]) -> None:
    running = start(stall_timeout_s=0.5, max_batch=16)
    connections = []
    for _ in range(4):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.connect((running.server.host, running.server.port))
        body = {"model": running.base_name, "prompt": "x", "n": 16, "stream": True, "logprobs": 20, **LONG}
        send(connection, json.dumps(body).encode())
        connections.append(connection)
    wait(lambda: running.server.in_flight >= 1)
    settle(running)
    wait(lambda: running.server.in_flight == 0, within_s=20)
    for connection in connections:
        connection.close()
    assert running.chat(running.base_name).status_code == 200
