from __future__ import annotations

from typing import Any

import msgspec
import pytest

from registry.errors import Invalid
from serving.base import Base
from serving.gateway.translate import grammar_of, messages_of, prompts_of, refuse_unsupported, sampling_of, seeds
from serving.gateway.wire.chat import ChatRequest
from serving.gateway.wire.completion import CompletionRequest
from serving.grammar import Grammars
from serving.request import Sampling


def chat(**fields: Any) -> ChatRequest:
    body = {"model": "a", "messages": [{"role": "user", "content": "hi"}], **fields}
    return msgspec.convert(body, ChatRequest)


def completion(**fields: Any) -> CompletionRequest:
    return msgspec.convert({"model": "a", "prompt": "hi", **fields}, CompletionRequest)


def test_nothing_given_means_openai_defaults_and_all_the_room_there_is() -> None:
    assert sampling_of(chat(), 10, 100) == Sampling(max_tokens=90)


def test_a_plain_completion_writes_sixteen_tokens_unless_told() -> None:
    assert sampling_of(completion(), 10, 100).max_tokens == 16
    assert sampling_of(completion(), 90, 100).max_tokens == 10


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
    assert sampling_of(request, 10, 100) == Sampling(
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
        sampling_of(chat(max_tokens=max_tokens), prompt_tokens, 100)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"modalities": ["audio"]}, "modalities"),
    ],
)
def test_what_would_change_the_answer_is_not_passed_over(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Invalid) as caught:
        refuse_unsupported(chat(**fields))
    assert caught.value.param == param


def test_what_changes_nothing_is_passed_over() -> None:
    refuse_unsupported(chat(tools=[], tool_choice="none", response_format={"type": "text"}, logit_bias={}))
    refuse_unsupported(completion(best_of=1, echo=False, suffix=""))


@pytest.mark.parametrize("fields", [{"echo": True, "stream": True, "logprobs": 1}, {"suffix": "x"}, {"best_of": 2}])
def test_completions_refuse_what_they_cannot_do(fields: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        refuse_unsupported(completion(**fields))


def test_logit_biases_are_of_token_ids() -> None:
    assert sampling_of(chat(logit_bias={"12": -100, "3": 0.5}), 1, 10).logit_bias == ((3, 0.5), (12, -100.0))
    for odd in ("x", "-1", "1.5", "", "\u0663", "9" * 30):
        with pytest.raises(Invalid) as caught:
            sampling_of(chat(logit_bias={odd: 1}), 1, 10)
        assert caught.value.param == "logit_bias"
    with pytest.raises(msgspec.ValidationError):
        chat(logit_bias={"5": 101})


@pytest.mark.parametrize(
    ("wanted", "param"),
    [
        ({"type": "xml"}, "response_format.type"),
        ({"type": "json_schema"}, "response_format.json_schema"),
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nothing"}}}, "response_format"),
    ],
)
def test_odd_response_formats_are_named(wanted: dict[str, Any], param: str, tiny_base: Base) -> None:
    with pytest.raises(Invalid) as caught:
        grammar_of(chat(response_format=wanted), Grammars(tiny_base))
    assert caught.value.param == param


def test_response_formats_become_grammars(tiny_base: Base) -> None:
    grammars = Grammars(tiny_base)
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "integer"}}}
    assert grammar_of(chat(), grammars) is grammar_of(chat(response_format={"type": "text"}), grammars) is None
    assert grammar_of(chat(response_format={"type": "json_object"}), grammars) is grammars.any_object()
    assert grammar_of(chat(response_format=schema), grammars) is grammars.from_schema({"type": "integer"})


def test_nothing_is_written_only_when_the_prompt_is_echoed() -> None:
    assert sampling_of(completion(max_tokens=0, echo=True), 10, 10).max_tokens == 0
    with pytest.raises(Invalid, match="echo"):
        sampling_of(completion(max_tokens=0), 10, 100)
    with pytest.raises(msgspec.ValidationError):
        chat(max_tokens=0)


def test_text_parts_are_joined_and_developer_is_system() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    request = chat(messages=[{"role": "developer", "content": "s"}, {"role": "user", "content": parts}])
    assert messages_of(request) == [{"role": "system", "content": "s"}, {"role": "user", "content": "ab"}]


def test_a_part_that_is_not_text_is_named() -> None:
    request = chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}])
    with pytest.raises(Invalid) as caught:
        messages_of(request)
    assert caught.value.param == "messages[0].content[0]"


def test_prompts_come_in_four_shapes() -> None:
    assert prompts_of(completion(prompt="a"), 10) == ["a"]
    assert prompts_of(completion(prompt=["a", "b"]), 10) == ["a", "b"]
    assert prompts_of(completion(prompt=[1, 2]), 10) == [(1, 2)]
    assert prompts_of(completion(prompt=[[1], [2, 3]]), 10) == [(1,), (2, 3)]


@pytest.mark.parametrize("prompt", [[], [10], [-1], [True], [[]], [[1], "a", 3], [1.5], [None], ["a"] * 65])
def test_other_shapes_are_refused(prompt: list[Any]) -> None:
    with pytest.raises(Invalid) as caught:
        prompts_of(completion(prompt=prompt), 10)
    assert str(caught.value.param).startswith("prompt")


def test_top_logprobs_need_logprobs() -> None:
    with pytest.raises(Invalid, match="logprobs"):
        sampling_of(chat(top_logprobs=3), 1, 10)


def test_answers_of_one_request_have_different_seeds() -> None:
    assert list(seeds(7, 3)) == [7, 8, 9]
    assert list(seeds(None, 2)) == [None, None]
