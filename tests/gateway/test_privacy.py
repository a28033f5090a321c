"""What somebody asked or was answered is in no log line, metric, trace or error document, wherever they wrote it."""

from __future__ import annotations

import json
import logging
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from tests.gateway.conftest import Running

SECRETS = st.text("abcdefghijklmnopqrstuvwxyzäß日本", min_size=14, max_size=30).map(lambda text: f"zq{text}")
"""Long enough to be in no other text by chance."""
CHOICES = {"unknown part", "role", "wrong schema", "tools"}
"""Where one of a few words is expected: whoever wrote another is told which it was."""

LIMITS = {
    "/v1/chat/completions": {"max_tokens": 2},
    "/v1/completions": {"max_tokens": 2},
    "/v1/responses": {"max_output_tokens": 2},
}


def message(content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


def places(secret: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """Wherever a body has room for somebody's words, well-formed or not."""
    chat, text = "/v1/chat/completions", "/v1/completions"
    schema = {"type": "object", "properties": {secret: {"const": secret}}, "required": [secret]}
    wrong_schema = {"type": secret, "description": secret}
    tool = {"type": "function", "function": {"name": "look", "description": secret, "parameters": wrong_schema}}
    return {
        "message": (chat, message(secret)),
        "part": (chat, message([{"type": "text", "text": secret}])),
        "unknown part": (chat, message([{"type": secret, "text": secret}])),
        "image": (chat, message([{"type": "image_url", "image_url": {"url": f"https://x/{secret}"}}])),
        "wrong content": (chat, message({"text": secret})),
        "role": (chat, {"messages": [{"role": secret, "content": secret}]}),
        "long": (chat, message(secret * 2000)),
        "prompt": (text, {"prompt": secret, "echo": True, "logprobs": 1}),
        "prompts": (text, {"prompt": [secret, secret]}),
        "wrong prompt": (text, {"prompt": {"text": secret}}),
        "stop": (chat, message("x") | {"stop": [secret]}),
        "wrong stop": (chat, message("x") | {"stop": {"at": secret}}),
        "user": (chat, message("x") | {"user": secret}),
        "metadata": (chat, message("x") | {"metadata": {"note": secret}}),
        "tools": (chat, message("x") | {"tools": [tool]}),
        "schema": (chat, message(secret) | {"response_format": {"type": "json_schema", "json_schema": {
            "name": "s", "schema": schema}}}),
        "wrong schema": (chat, message(secret) | {"response_format": {"type": "json_schema", "json_schema": {
            "name": "s", "schema": wrong_schema}}}),
        "wrong number": (chat, message("x") | {"temperature": secret}),
        "surrogate": (chat, message(secret + "\ud800")),
        "suffix": (text, {"prompt": "x", "suffix": secret}),
        "feedback": ("/v1/feedback", {"request_id": "gone", "correction": secret}),
        "input": ("/v1/embeddings", {"input": secret}),
        "response": ("/v1/responses", {"input": secret, "instructions": secret}),
        "wrong response": ("/v1/responses", {"input": [{"role": "user", "content": {"x": secret}}]}),
        "tokens": ("/v1/tokenize", {"prompt": secret}),
    }  # fmt: skip


def told(running: Running) -> str:
    return running.log.getvalue() + running.http.get("/metrics").text


def wait_for(running: Running, event: str) -> dict[str, Any]:
    """A line is written when the last byte of the answer is out, and the client may be quicker."""
    deadline = time.monotonic() + 10
    while not (found := [each for each in running.logged() if each["event"] == event]):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found[-1]


def spellings(secret: str) -> set[str]:
    return {secret, json.dumps(secret)[1:-1]}


@given(SECRETS)
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_words_leave_by_another_door(running: Running, caplog: pytest.LogCaptureFixture, secret: str) -> None:
    caplog.set_level(logging.DEBUG, "lorimer")
    for place, (path, fields) in places(secret).items():
        body = json.dumps({"model": "alpha", **LIMITS.get(path, {}), **fields})
        answer = running.http.post(path, content=body, headers={"content-type": "application/json"})
        assert answer.status_code < 500, (place, answer.text)
        if answer.status_code >= 400 and place not in CHOICES:
            assert not any(each in answer.text for each in spellings(secret)), (place, answer.text)
    written = told(running) + caplog.text
    assert not any(each in written for each in spellings(secret))


def test_nor_the_answers(running: Running) -> None:
    words = [running.chat("beta", f"say {n}", max_tokens=30, ignore_eos=True).json() for n in range(3)]
    written = told(running)
    for each in words:
        content = each["choices"][0]["message"]["content"]
        assert len(content) > 10
        assert content not in written
        assert json.dumps(content)[1:-1] not in written


def test_an_unforeseen_error_is_logged_by_its_way_not_its_words(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "zq-somebodys-words"

    def fail(*_: object, **__: object) -> None:
        raise KeyError(secret)

    monkeypatch.setattr(running.gateway.reading, "prompts", fail)
    answer = running.chat("alpha", secret)
    assert answer.status_code == 500
    assert secret not in answer.text
    line = wait_for(running, "unexpected error")
    assert line["exception"].endswith("KeyError")
    assert "test_privacy.py" in line["exception"]
    assert secret not in running.log.getvalue()
