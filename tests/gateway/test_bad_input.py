"""Whatever is posted, the answer is a documented one: never a 500, always the envelope, and the server lives on."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from tests.gateway.conftest import Running

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([1 << 31, 1 << 63, -(1 << 63), 1 << 80, 1e308, -0.0, 0.5, 2.0]),
    st.text(max_size=5),
    st.lists(st.one_of(st.integers(-1, 400), st.text(max_size=3), st.none()), max_size=3),
    st.dictionaries(st.sampled_from(["type", "text", "include_usage", "role", "5"]), st.integers(0, 1), max_size=2),
)
CHAT = ["messages", "max_completion_tokens", "logprobs", "top_logprobs", "response_format", "tools", "tool_choice"]
PLAIN = ["prompt", "logprobs", "echo", "suffix", "best_of"]
BOTH = [
    *("model", "stream", "stream_options", "user", "n", "max_tokens", "temperature", "top_p", "seed", "stop"),
    *("presence_penalty", "frequency_penalty", "logit_bias", "top_k", "min_p", "min_tokens", "ignore_eos"),
    *("stop_token_ids", "repetition_penalty", "something_new"),
]


def odd_fields(names: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(names), ODD, min_size=1, max_size=3)


def answer(running: Running, path: str, body: dict[str, Any]) -> None:
    response = running.http.post(path, json=body)
    assert response.status_code in (200, 400, 404), (response.status_code, body, response.text)
    if response.status_code != 200:
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None)
@given(fields=odd_fields(CHAT + BOTH))
def test_odd_chat_requests(running: Running, fields: dict[str, Any]) -> None:
    body = {"model": "alpha", "messages": [{"role": "user", "content": "x"}], "max_tokens": 2, **fields}
    if body.get("max_tokens") is None and not body.get("max_completion_tokens"):
        body["max_completion_tokens"] = 2
    answer(running, "/v1/chat/completions", body)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None)
@given(fields=odd_fields(PLAIN + BOTH))
def test_odd_completion_requests(running: Running, fields: dict[str, Any]) -> None:
    answer(running, "/v1/completions", {"model": "alpha", "prompt": "x", "max_tokens": 2, **fields})


@pytest.mark.parametrize("content", ['"\\ud800"', '"\\u0000"', '""', '"\U0001f40e"', '"<|im_end|>"'])
def test_odd_text(running: Running, content: str) -> None:
    body = f'{{"model": "alpha", "max_tokens": 1, "messages": [{{"role": "user", "content": {content}}}]}}'
    response = running.http.post(
        "/v1/chat/completions", content=body.encode(), headers={"content-type": "application/json"}
    )
    assert response.status_code in (200, 400)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\ncontent-length: 9\r\n\r\n{}",
        b"GET /health HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * (1 << 20) + b"\r\n\r\n",
        b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        b"GET /api/adapters/%2e%2e HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\n"
        b"content-type: application/json\r\ncontent-length: 99\r\n\r\n{",
    ],
)
def test_odd_bytes_on_the_socket(running: Running, request_bytes: bytes) -> None:
    with socket.create_connection((running.server.host, running.server.port), timeout=0.5) as connection:
        try:
            connection.sendall(request_bytes)
            answer = connection.recv(4096)
        except (TimeoutError, ConnectionError):
            answer = b""
    assert not answer.startswith(b"HTTP/1.1 5")
    assert b"Traceback" not in answer
    assert running.http.get("/health").status_code == 200
