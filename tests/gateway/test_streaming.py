"""The order of a stream's events, as clients rely on it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest

from serving.gateway.caller import Caller
from serving.gateway.calls import begin
from serving.gateway.dialect.chat_answer import ChatAnswers
from serving.gateway.dialect.chat_question import ChatQuestion
from serving.gateway.dialect.streaming import HEARTBEAT_S, KEEP_ALIVE, stream
from serving.gateway.principal import SCOPES, Principal
from serving.gateway.trace import Trace
from serving.gateway.wire.chat import ChatRequest, Message

if TYPE_CHECKING:
    from tests.gateway.conftest import Running


def events(running: Running, path: str, body: dict[str, Any]) -> list[Any]:
    """Every `data:` of a streamed answer, parsed; [DONE] stays a string."""
    with running.http.stream("POST", path, json={"temperature": 0, "stream": True, **body}) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-cache"
        lines = [line for line in response.iter_lines() if line]
    assert all(line.startswith("data: ") for line in lines)
    data = [line.removeprefix("data: ") for line in lines]
    return [each if each == "[DONE]" else json.loads(each) for each in data]


def chat_body(model: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 12, **fields}


def test_role_then_text_then_finish_then_done(running: Running) -> None:
    whole = running.chat("alpha", max_tokens=12).json()
    *chunks, done = events(running, "/v1/chat/completions", chat_body("alpha"))
    assert done == "[DONE]"
    assert len({(chunk["id"], chunk["created"], chunk["system_fingerprint"]) for chunk in chunks}) == 1
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert {chunk["model"] for chunk in chunks} == {"alpha"}
    assert "usage" not in chunks[-1]
    first, *middle, last = [chunk["choices"][0] for chunk in chunks]
    assert first["delta"] == {"role": "assistant", "content": ""}
    assert all("role" not in each["delta"] and each["finish_reason"] is None for each in middle)
    assert last["delta"] == {}
    assert last["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert "".join(each["delta"]["content"] for each in middle) == whole["choices"][0]["message"]["content"]


def test_usage_comes_last_when_asked_for(running: Running) -> None:
    body = chat_body("beta", stream_options={"include_usage": True})
    *chunks, usage, done = events(running, "/v1/chat/completions", body)
    assert done == "[DONE]"
    assert usage["choices"] == []
    assert usage["usage"] == running.chat("beta", max_tokens=12).json()["usage"]
    assert all(chunk["usage"] is None for chunk in chunks)


def test_several_answers_interleave_under_their_indices(running: Running) -> None:
    body = chat_body("beta", n=2, temperature=1.0, seed=3)
    *chunks, _ = events(running, "/v1/chat/completions", body)
    whole = running.chat("beta", n=2, temperature=1.0, seed=3, max_tokens=12).json()
    texts = {0: "", 1: ""}
    for choice in (chunk["choices"][0] for chunk in chunks):
        texts[choice["index"]] += choice["delta"].get("content", "")
    assert texts == {choice["index"]: choice["message"]["content"] for choice in whole["choices"]}


def test_plain_completions_stream_too(running: Running) -> None:
    body = {"model": "gamma", "prompt": "Once upon", "max_tokens": 8, "logprobs": 1}
    *chunks, done = events(running, "/v1/completions", body)
    whole = running.http.post("/v1/completions", json={**body, "temperature": 0}).json()["choices"][0]
    assert done == "[DONE]"
    choices = [chunk["choices"][0] for chunk in chunks]
    assert "".join(choice["text"] for choice in choices) == whole["text"]
    assert choices[-1]["finish_reason"] == whole["finish_reason"]
    offsets = [each for choice in choices if choice["logprobs"] for each in choice["logprobs"]["text_offset"]]
    assert offsets == whole["logprobs"]["text_offset"]


def merged(chunks: list[Any], index: int) -> dict[str, list[Any]]:
    """The log-probabilities that the chunks of one answer tell, joined."""
    parts = [
        choice["logprobs"]
        for chunk in chunks
        for choice in chunk["choices"]
        if choice["index"] == index and choice["logprobs"]
    ]
    return {key: [each for part in parts for each in part[key]] for key in parts[0]}


@pytest.mark.parametrize("max_tokens", [0, 5])
def test_an_echoed_prompt_is_streamed_with_its_scores(running: Running, max_tokens: int) -> None:
    body: dict[str, Any] = {
        "model": "gamma",
        "prompt": ["Once upon", "a time"],
        "max_tokens": max_tokens,
        "logprobs": 2,
        "echo": True,
        "n": 2,
        "seed": 4,
    }
    *chunks, _ = events(running, "/v1/completions", body)
    whole = running.http.post("/v1/completions", json={**body, "temperature": 0}).json()["choices"]
    for index, choice in enumerate(whole):
        texts = [each["text"] for chunk in chunks for each in chunk["choices"] if each["index"] == index]
        assert "".join(texts) == choice["text"]
        told = merged(chunks, index)
        assert told["tokens"] == choice["logprobs"]["tokens"]
        assert told["text_offset"] == choice["logprobs"]["text_offset"]
        assert told["token_logprobs"][0] is None
        assert told["token_logprobs"][1:] == pytest.approx(choice["logprobs"]["token_logprobs"][1:], abs=1e-3)
        assert len(told["top_logprobs"]) == len(told["tokens"])


@pytest.mark.parametrize(
    ("fields", "status"),
    [({"model": "nobody"}, 404), ({"max_tokens": 1 << 20}, 400), ({"top_p": 5}, 400)],
)
def test_a_refusal_before_the_first_byte_has_its_own_status(
    running: Running, fields: dict[str, Any], status: int
) -> None:
    response = running.http.post("/v1/chat/completions", json={**chat_body("alpha", stream=True), **fields})
    assert response.status_code == status
    assert "error" in response.json()


def test_stream_options_need_a_stream(running: Running) -> None:
    response = running.chat("alpha", stream_options={"include_usage": True})
    assert response.json()["error"]["param"] == "stream_options"


def test_an_error_after_the_first_byte_is_told_in_the_stream(running: Running) -> None:
    told = None
    body = chat_body("alpha", stream=True, max_tokens=400, ignore_eos=True)
    with running.http.stream("POST", "/v1/chat/completions", json=body) as response:
        for line in response.iter_lines():
            if not line:
                continue
            told = json.loads(line.removeprefix("data: "))
            if "error" not in told:
                running.gateway.engine.abort(f"{told['id']}-0")
    assert told is not None
    assert set(told["error"]) == {"message", "type", "param", "code"}


async def begun(running: Running, **fields: Any) -> AsyncIterator[bytes]:
    """Straight to the iterator."""
    heartbeat_s = fields.pop("heartbeat_s", HEARTBEAT_S)
    body = ChatRequest(model="alpha", messages=[Message(role="user", content="hello")], ignore_eos=True, **fields)
    caller = Caller(Principal("local", "default", SCOPES), running.gateway.tenants.of("default"), Trace("test"))
    call = await begin(running.gateway, caller, ChatQuestion(body))
    return stream(call, ChatAnswers(running.gateway.spell), include_usage=False, heartbeat_s=heartbeat_s)


def test_silence_is_filled_with_comments(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a heartbeat shorter than a step."""
    send = running.gateway.post.send
    monkeypatch.setattr(running.gateway.post, "send", lambda: (send(), time.sleep(0.02)))

    async def collect() -> list[bytes]:
        return [piece async for piece in await begun(running, max_tokens=5, heartbeat_s=1e-3)]

    pieces = asyncio.run(collect())
    assert KEEP_ALIVE in pieces
    assert pieces[-1].endswith(b"data: [DONE]\n\n")


def test_a_reader_that_lags_gets_the_same_events_in_fewer_pieces(running: Running) -> None:
    async def collect(lag_s: float) -> list[bytes]:
        pieces = []
        async for piece in await begun(running, max_tokens=20, n=2, seed=1):
            pieces.append(piece)
            await asyncio.sleep(lag_s)
        return pieces

    prompt, late = asyncio.run(collect(0.0)), asyncio.run(collect(1.0))
    assert len(late) < 10
    assert texts(prompt) == texts(late)


def texts(pieces: list[bytes]) -> dict[int, list[str]]:
    """What each event of each answer adds."""
    found: dict[int, list[str]] = {}
    for told in b"".join(pieces).removesuffix(b"data: [DONE]\n\n").split(b"\n\n")[:-1]:
        (choice,) = json.loads(told.removeprefix(b"data: "))["choices"]
        found.setdefault(choice["index"], []).append(choice["delta"].get("content", ""))
    return found
