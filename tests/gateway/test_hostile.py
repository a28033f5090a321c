"""What no client should send, sent over a real socket: the documented answer, and the gateway serves on."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from registry.keys import Grants, KeyLog
from serving.gateway import entrance
from serving.gateway import server as gateway_server

if TYPE_CHECKING:
    from tests.gateway.conftest import Running

CHAT = '{"model": "alpha", "max_tokens": 1, "messages": [{"role": "user", "content": %s}]}'
JSON = "content-type: application/json\r\n"


def talk(running: Running, request: bytes, *, wait_s: float = 20.0, then: bytes = b"") -> bytes:
    """Everything that comes back until the gateway closes; what it answers before all is sent is read too."""
    with socket.create_connection((running.server.host, running.server.port), timeout=wait_s) as connection:
        answer = bytearray()
        with suppress(ConnectionError):
            connection.sendall(request)
            if then:
                time.sleep(0.05)
                connection.sendall(then)
        with suppress(ConnectionError):
            while chunk := connection.recv(65_536):
                answer += chunk
        return bytes(answer)


def post(path: str, body: bytes, extra: str = "") -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nhost: localhost\r\n"
        f"connection: close\r\n{JSON}{extra}content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def error(answer: bytes) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    return told


@pytest.fixture(autouse=True)
def serves_on(running: Running) -> Iterator[None]:
    yield
    assert running.chat("alpha").status_code == 200
    assert running.gateway.engine.is_running
    assert not [line for line in running.logged() if line["event"] == "unexpected error"]


BODIES = {
    "100,000 levels": (b"[" * 100_000, 400, None),
    "100,000 levels of objects": (b'{"a":' * 100_000, 400, "invalid_json"),
    "100,000 levels in a field": ((CHAT % ("[" * 100_000)).encode(), 400, "invalid_json"),
    "100,000 levels in an ignored field": (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, "invalid_json"),
    "not a number": (b'{"model": "alpha", "prompt": "x", "temperature": NaN}', 400, "invalid_json"),
    "infinity": (b'{"model": "alpha", "prompt": "x", "temperature": Infinity}', 400, "invalid_json"),
    "beyond a double": (b'{"model": "alpha", "prompt": "x", "temperature": 1e999}', 400, "invalid_value"),
    "bad UTF-8": (b'{"model": "alpha", "prompt": "\xff\xfe"}', 400, "invalid_json"),
    "half a surrogate": (b'{"model": "alpha", "prompt": "\\ud800", "max_tokens": 1}', 400, "invalid_json"),
    "UTF-16": ('{"model": "alpha"}'.encode("utf-16"), 400, "invalid_json"),
    "two documents": (b'{"model": "alpha", "prompt": "x"}{}', 400, "invalid_json"),
    "nothing": (b"", 400, "invalid_json"),
    "a number of 100,000 digits": (b'{"model": "alpha", "prompt": "x", "seed": ' + b"9" * 100_000 + b"}", 400, None),
    "huge n": (b'{"model": "alpha", "prompt": "x", "n": 1000000000}', 400, "invalid_value"),
    "huge max_tokens": (b'{"model": "alpha", "prompt": "x", "max_tokens": 1000000000}', 400, "context_length_exceeded"),
    "a million stops": (
        b'{"model": "alpha", "prompt": "x", "stop": [' + b'"a",' * 999_999 + b'"a"]}',
        400,
        "invalid_value",
    ),
    "a million stop tokens": (
        b'{"model": "alpha", "prompt": "x", "stop_token_ids": [' + b"5," * 999_999 + b"5]}",
        400,
        "invalid_value",
    ),
    "a million prompts": (b'{"model": "alpha", "prompt": [' + b'"",' * 999_999 + b'""]}', 400, "invalid_value"),
    "a million token ids": (b'{"model": "alpha", "prompt": [' + b"5," * 999_999 + b"5]}", 400, "invalid_value"),
    "200,000 token ids": (
        b'{"model": "alpha", "prompt": [' + b"5," * 199_999 + b"5]}",
        400,
        "context_length_exceeded",
    ),
    "a text of 4 MB": (b'{"model": "alpha", "prompt": "' + b"x" * 4_100_000 + b'"}', 400, "context_length_exceeded"),
    "more than a body may have": (b'{"prompt": "' + b"x" * (5 << 20) + b'"}', 413, "request_entity_too_large"),
    "a path for a name": (b'{"model": "../../etc/passwd", "prompt": "x"}', 404, "model_not_found"),
    "an escaped path for a name": (b'{"model": "%2e%2e/alpha", "prompt": "x"}', 404, "model_not_found"),
    "a URL for a name": (b'{"model": "http://evil.example/a", "prompt": "x"}', 404, "model_not_found"),
    "another tenant's adapter": (b'{"model": "other/alpha@prod", "prompt": "x"}', 404, "model_not_found"),
    "a name with a null": (b'{"model": "alpha\\u0000", "prompt": "x"}', 404, "model_not_found"),
}


@pytest.mark.parametrize("case", BODIES)
def test_bodies(running: Running, case: str) -> None:
    body, expected, code = BODIES[case]
    answer = talk(running, post("/v1/completions", body))
    assert status(answer) == expected, answer[:500]
    assert set(error(answer)) == {"message", "type", "param", "code"}
    assert code is None or error(answer)["code"] == code
    assert len(error(answer)["message"]) < 1000


RAW = {
    "20 MB of header": (b"GET /health HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * (20 << 20) + b"\r\n\r\n", {0, 431}),
    "200 KB of header": (b"GET /health HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * 200_000 + b"\r\n\r\n", {431}),
    "a thousand headers": (b"GET /health HTTP/1.1\r\n" + b"x: y\r\n" * 1000 + b"\r\n", {431}),
    "a path of 100 KB": (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n", {414, 431}),
    "two lengths": (b"POST /v1/completions HTTP/1.1\r\ncontent-length: 3\r\ncontent-length: 9\r\n\r\nabc", {400}),
    "a list of lengths": (b"POST /v1/completions HTTP/1.1\r\ncontent-length: 3, 9\r\n\r\nabc", {400}),
    "a signed length": (b"POST /v1/completions HTTP/1.1\r\ncontent-length: +3\r\n\r\nabc", {400}),
    "an unknown coding": (b"POST /v1/completions HTTP/1.1\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n", {400}),
    "a coding after chunked": (
        b"POST /v1/completions HTTP/1.1\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        {400},
    ),
    "a space before the colon": (
        b"POST /v1/completions HTTP/1.1\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        {400},
    ),
    "a folded header": (b"GET /health HTTP/1.1\r\nhost: localhost\r\nx: a\r\n b\r\n\r\n", {400}),
    "a null in a header": (b"GET /health HTTP/1.1\r\nhost: localhost\r\nx: a\x00b\r\n\r\n", {400}),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00", {0, 400}),
    "HTTP/2 without TLS": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {0, 400}),
    "a chunk that is none": (
        f"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\n"
        f"{JSON}transfer-encoding: chunked\r\n\r\nzz\r\nabc\r\n".encode(),
        {400},
    ),
    "a body that breaks off": (
        f"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\n{JSON}transfer-encoding: chunked\r\n\r\n"
        f"3;{'a' * 100_000}\r\nabc\r\n0\r\n\r\n".encode(),
        {400},
    ),
    "a way out of the tree": (
        b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        {404},
    ),
    "a way out of the registry": (
        b"GET /api/adapters/%2e%2e%2f%2e%2e/log HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        {400, 404},
    ),
    "dots for an adapter": (
        b"GET /api/adapters/.. HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        {400, 404},
    ),
    "a null for an adapter": (b"GET /v1/models/a%00b HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", {404}),
    "bytes that are no text in a path": (
        b"GET /v1/models/%ff%fe HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        {404},
    ),
    "a port that is none": (b"GET /v1/nothing HTTP/1.1\r\nhost: localhost:x\r\nconnection: close\r\n\r\n", {404}),
    "a method that is none": (b"BREW /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", {404, 405}),
    "a tunnel": (b"CONNECT evil.example:443 HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n", {400, 404, 405}),
}


@pytest.mark.parametrize("case", RAW)
def test_bytes(running: Running, case: str) -> None:
    request, expected = RAW[case]
    answer = talk(running, request)
    assert status(answer) in expected, answer[:500]
    assert b"Traceback" not in answer


@pytest.mark.parametrize("order", ["length first", "coding first"])
def test_a_length_beside_chunks_smuggles_nothing(running: Running, order: str) -> None:
    """Chunks count, and the connection is closed after the answer: what follows is never taken for a request."""
    coding, length = "transfer-encoding: chunked\r\n", "content-length: 5\r\n"
    headers = length + coding if order == "length first" else coding + length
    smuggled = b"GET /version HTTP/1.1\r\nhost: localhost\r\n\r\n"
    request = f"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\n{JSON}{headers}\r\n0\r\n\r\n".encode() + smuggled
    answer = talk(running, request)
    assert status(answer) == 400
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"base_weights" not in answer


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "soon", "1e9", "", "1,2"])
def test_a_deadline_that_makes_no_sense(running: Running, value: str) -> None:
    answer = talk(
        running, post("/v1/completions", b'{"model": "alpha", "prompt": "x"}', f"x-request-timeout: {value}\r\n")
    )
    assert (status(answer), error(answer)["param"]) == (400, "x-request-timeout")


def test_whoever_sends_nothing_or_half_a_head_is_hung_up_on(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_server, "IDLE_MS", 700)
    running = start()
    for sent in (b"", b"GET /health HT", b"GET /health HTTP/1.1\r\nhost: localhost\r\nx-slow: "):
        since = time.monotonic()
        assert status(talk(running, sent, wait_s=10)) in (0, 408)
        assert time.monotonic() - since < 5


def test_bodies_that_do_not_come_are_not_waited_for(start: Callable[..., Running]) -> None:
    running = start(body_timeout_s=0.5)
    head = f"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\n{JSON}content-length: 100\r\n\r\n"
    for answer, took_s in together(running, head.encode() + b'{"model"'):
        assert 0.4 < took_s < 5
        assert (status(answer), error(answer)["code"]) == (408, "request_timeout")
        assert b"connection: close" in answer.lower()


def test_who_sends_no_body_after_a_refusal_is_hung_up_on(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entrance, "SWALLOW_S", 0.5)
    head = f"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\n{JSON}content-length: 999999999\r\n\r\n"
    for answer, took_s in together(start(), head.encode()):
        assert 0.4 < took_s < 5
        assert status(answer) == 413


def together(running: Running, request: bytes) -> list[tuple[bytes, float]]:
    """What comes back until the gateway closes, and after how many seconds, for many that ask at once."""

    def one(_: int) -> tuple[bytes, float]:
        since = time.monotonic()
        return talk(running, request), time.monotonic() - since

    with ThreadPoolExecutor(40) as pool:
        return list(pool.map(one, range(40)))


def test_a_body_drop_by_drop_has_no_more_time(start: Callable[..., Running]) -> None:
    running = start(body_timeout_s=0.5)
    with socket.create_connection((running.server.host, running.server.port), timeout=10) as connection:
        head = f"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\n{JSON}content-length: 1000\r\n\r\n"
        connection.sendall(head.encode())
        with suppress(ConnectionError):
            for _ in range(20):
                connection.sendall(b" ")
                time.sleep(0.05)
        assert b" 408 " in connection.recv(4096)


def test_hundreds_of_slow_connections_keep_nobody_out(running: Running) -> None:
    with ThreadPoolExecutor(1) as pool:
        opened = [socket.create_connection((running.server.host, running.server.port), timeout=10) for _ in range(400)]
        try:
            for number, connection in enumerate(opened):
                connection.sendall(b"GET /health HT" if number % 2 else post("/v1/completions", b"x" * 9)[:-5])
            assert pool.submit(running.chat, "alpha").result(timeout=20).status_code == 200
        finally:
            for connection in opened:
                connection.close()


def test_another_tenants_adapter_is_not_there(start: Callable[..., Running]) -> None:
    """What it is called, and whether there is one, shows in nothing that is answered."""
    running = start()
    running.publish("secret", 5)
    _, key = KeyLog.of(running.registry).create(
        Grants(name="theirs", tenant="other", scopes=frozenset({"infer", "publish", "promote"}))
    )
    headers = {"authorization": f"Bearer {key}"}
    time.sleep(1.5)
    told = []
    for name in ("secret", "nothing"):
        for model in (
            name,
            f"{name}@prod",
            f"{running.registry.tenant}/{name}",
            f"{running.registry.tenant}/{name}@v1",
        ):
            body = {"model": model, "prompt": "x"}
            response = running.http.post("/v1/completions", json=body, headers=headers)
            assert response.status_code == 404, response.text
            told.append(response.json()["error"]["message"].replace(name, "NAME"))
    assert told[:4] == told[4:]
    models = running.http.get("/v1/models", headers=headers)
    assert models.status_code == 200, models.text
    assert "secret" not in models.text


def test_beside_all_that_others_are_answered(running: Running) -> None:
    """No timing here: `python -m benchmarks.gateway hostile` measures what it costs them."""
    stop = threading.Event()
    others: list[int] = []

    def ask() -> None:
        while not stop.is_set():
            others.append(running.chat("beta", max_tokens=4).status_code)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for body, _, _ in BODIES.values():
            talk(running, post("/v1/completions", body))
        for request, _ in RAW.values():
            talk(running, request)
    finally:
        stop.set()
        asking.join()
    assert set(others) == {200}
    assert len(others) > 5
