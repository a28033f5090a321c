from __future__ import annotations

from typing import Any

import msgspec
import pytest

from registry.errors import Invalid
from serving.gateway.dialect.chat_question import ChatQuestion
from serving.gateway.dialect.sampling import seeds
from serving.gateway.dialect.text_question import TextQuestion
from serving.gateway.wire.chat import ChatRequest
from serving.gateway.wire.completion import CompletionRequest
from serving.request import Sampling


def chat(**fields: Any) -> ChatRequest:
    body = {"model": "a", "messages": [{"role": "user", "content": "hi"}], **fields}
    return msgspec.convert(body, ChatRequest)


def completion(**fields: Any) -> CompletionRequest:
    return msgspec.convert({"model": "a", "prompt": "hi", **fields}, CompletionRequest)


def sampling(body: ChatRequest | CompletionRequest, prompt_tokens: int, context_length: int) -> Sampling:
    question = ChatQuestion(body) if isinstance(body, ChatRequest) else TextQuestion(body)
    return question.sampling(prompt_tokens, context_length, None)


def test_nothing_given_means_openai_defaults_and_all_the_room_there_is() -> None:
    assert sampling(chat(), 10, 100) == Sampling(max_tokens=90)


def test_a_plain_completion_writes_sixteen_tokens_unless_told() -> None:
    assert sampling(completion(), 10, 100).max_tokens == 16
    assert sampling(completion(), 90, 100).max_tokens == 10


def test_every_field_arrives() -> None:
    request = chat(
        temperature=0,
        top_p=0.5,
        top_k=-1,
        min_p=0.1,
        max_completion_tokens=7,
        max_tokens=9,
        min_tokens=2,
        seed=-5,
        stop="END",
        stop_token_ids=[3],
        ignore_eos=True,
        presence_penalty=1,
        frequency_penalty=-1,
        repetition_penalty=1.1,
        logprobs=True,
        top_logprobs=4,
    )
    assert sampling(request, 10, 100) == Sampling(
        temperature=0.0,
        top_p=0.5,
        top_k=0,
        min_p=0.1,
        max_tokens=7,
        min_tokens=2,
        seed=-5,
        stop=("END",),
        stop_token_ids=(3,),
        ignore_eos=True,
        presence_penalty=1.0,
        frequency_penalty=-1.0,
        repetition_penalty=1.1,
        logprobs=4,
    )


@pytest.mark.parametrize(("prompt_tokens", "max_tokens"), [(100, None), (101, None), (90, 11), (1, 1 << 31)])
def test_what_cannot_fit_is_context_length_exceeded(prompt_tokens: int, max_tokens: int | None) -> None:
    with pytest.raises(Invalid) as caught:
        sampling(chat(max_tokens=max_tokens), prompt_tokens, 100)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")


def test_logit_biases_are_of_token_ids() -> None:
    assert sampling(chat(logit_bias={"12": -100, "3": 0.5}), 1, 10).logit_bias == ((3, 0.5), (12, -100.0))
    for odd in ("x", "-1", "1.5", "", "\u0663", "9" * 30):
        with pytest.raises(Invalid) as caught:
            sampling(chat(logit_bias={odd: 1}), 1, 10)
        assert caught.value.param == "logit_bias"
    with pytest.raises(msgspec.ValidationError):
        chat(logit_bias={"5": 101})


def test_nothing_is_written_only_when_the_prompt_is_echoed() -> None:
    assert sampling(completion(max_tokens=0, echo=True), 10, 10).max_tokens == 0
    with pytest.raises(Invalid, match="echo"):
        sampling(completion(max_tokens=0), 10, 100)
    with pytest.raises(msgspec.ValidationError):
        chat(max_tokens=0)


def test_top_logprobs_need_logprobs() -> None:
    with pytest.raises(Invalid, match="logprobs"):
        sampling(chat(top_logprobs=3), 1, 10)


def test_answers_of_one_request_have_different_seeds() -> None:
    assert list(seeds(7, 3)) == [7, 8, 9]
    assert list(seeds(None, 2)) == [None, None]
