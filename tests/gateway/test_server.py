from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import httpx
import pytest

from registry.errors import Invalid, Refused, Unavailable
from serving.gateway.server import GatewayServer, free_address

if TYPE_CHECKING:
    from tests.gateway.conftest import Running


def test_a_taken_port_is_one_clear_line(running: Running) -> None:
    second = GatewayServer(running.gateway, port=running.server.port)
    with pytest.raises(Unavailable, match="is taken"):
        second.start()
    assert running.http.get("/health").status_code == 200


def test_any_listener_counts_as_taken() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(Unavailable, match="is taken"):
            free_address("127.0.0.1", other.getsockname()[1])


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70_000), ("127.0.0.1", -1)])
def test_an_impossible_port_is_invalid(host: str, port: int) -> None:
    with pytest.raises(Invalid):
        free_address(host, port)


def test_an_address_of_another_machine_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="cannot listen"):
        free_address("192.0.2.1", 0)


def test_an_open_bind_without_keys_refuses_to_start(running: Running) -> None:
    with pytest.raises(Refused):
        GatewayServer(running.gateway, host="0.0.0.0", port=0).start()  # noqa: S104


@pytest.mark.parametrize("host", ["0.0.0.0", "localhost"])  # noqa: S104
def test_other_binds_come_up_too_given_keys(start: Callable[..., Running], host: str) -> None:
    running = start(host=host, api_key_hashes="0" * 64)
    assert httpx.get(f"http://127.0.0.1:{running.server.port}/health").status_code == 200
    assert httpx.get(f"http://127.0.0.1:{running.server.port}/v1/models").status_code == 401


def test_stopping_lets_running_requests_finish(fresh: Running) -> None:
    answers: list[httpx.Response] = []
    ask = threading.Thread(target=lambda: answers.append(fresh.chat(fresh.base_name, max_tokens=150, ignore_eos=True)))
    ask.start()
    while fresh.gateway.engine.stats().running == 0:
        time.sleep(0.005)
    fresh.server.stop()
    ask.join()
    assert answers[0].status_code == 200
    assert answers[0].json()["usage"]["completion_tokens"] == 150
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{fresh.server.url}/health")


def test_a_drain_has_an_end(fresh: Running) -> None:
    server = GatewayServer(fresh.gateway, port=0, drain_s=0.2).start()
    body = {"model": fresh.base_name, "prompt": "x", "max_tokens": 400, "ignore_eos": True, "stream": True}
    with httpx.stream("POST", f"{server.url}/v1/completions", json=body) as response:
        next(response.iter_lines())
        since = time.monotonic()
        server.stop()
        assert time.monotonic() - since < 8
    deadline = time.monotonic() + 2
    while fresh.gateway.engine.stats().running and time.monotonic() < deadline:
        time.sleep(0.01)
    assert fresh.gateway.engine.stats().running == 0
