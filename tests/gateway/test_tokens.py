"""Tokenizing and detokenizing over HTTP, as vLLM does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.gateway.conftest import Running


def post(running: Running, path: str, **body: Any) -> Any:
    response = running.http.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_a_text_there_and_back(running: Running, prefix: str) -> None:
    told = post(running, f"{prefix}/tokenize", model="alpha", prompt="Größe 7 <|im_end|>")
    assert told["tokens"] == running.base.tokenizer.encode("Größe 7 <|im_end|>")
    assert told["count"] == len(told["tokens"])
    assert told["max_model_len"] == running.gateway.engine.max_context
    assert told["token_strs"] is None
    assert post(running, f"{prefix}/detokenize", tokens=told["tokens"])["prompt"] == "Größe 7 <|im_end|>"


def test_a_conversation_is_tokenized_as_it_is_answered(running: Running) -> None:
    messages = [{"role": "user", "content": "hello"}]
    tokens = post(running, "/v1/tokenize", messages=messages)["tokens"]
    assert tokens == running.base.render(messages)
    assert len(tokens) == running.chat("alpha", max_tokens=1).json()["usage"]["prompt_tokens"]
    bare = post(running, "/v1/tokenize", messages=messages, add_generation_prompt=False)["tokens"]
    assert bare == running.base.render(messages, add_generation_prompt=False)


def test_tokens_may_be_told_as_they_are_spelled(running: Running) -> None:
    told = post(running, "/v1/tokenize", prompt="ab", return_token_strs=True)
    assert told["token_strs"] == ["a", "b"]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/tokenize", {}, "prompt"),
        ("/v1/tokenize", {"prompt": "a", "messages": [{"role": "user", "content": "a"}]}, "prompt"),
        ("/v1/tokenize", {"messages": [{"role": "user", "content": "a"}], "chat_template": "x"}, "chat_template"),
        ("/v1/tokenize", {"prompt": "a", "model": "nobody"}, "model"),
        ("/v1/detokenize", {"tokens": [1, 10_000_000]}, "tokens"),
        ("/v1/detokenize", {"tokens": [-1]}, "tokens[0]"),
        ("/v1/detokenize", {"tokens": [1], "model": "nobody"}, "model"),
    ],
)
def test_what_is_wrong_is_named(running: Running, path: str, body: dict[str, Any], param: str) -> None:
    response = running.http.post(path, json=body)
    assert response.status_code == (404 if param == "model" else 400)
    assert response.json()["error"]["param"] == param
