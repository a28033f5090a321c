"""logit_bias, response_format, echo, min_tokens and n, over HTTP."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from tests.gateway.conftest import Running

SCHEMA = {
    "type": "object",
    "properties": {"name": {"enum": ["a", "b"]}, "age": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def complete(running: Running, prompt: Any = "Once upon", **fields: Any) -> httpx.Response:
    body = {"model": "alpha", "prompt": prompt, "temperature": 0, "max_tokens": 6, **fields}
    return running.http.post("/v1/completions", json=body)


def answered(running: Running, **fields: Any) -> Any:
    response = complete(running, **fields)
    assert response.status_code == 200, response.text
    return response.json()


def test_a_bias_forces_and_forbids_tokens(running: Running) -> None:
    token = running.base.tokenizer.encode("z")[0]
    forced = running.chat("alpha", max_tokens=5, logit_bias={str(token): 100}).json()["choices"][0]
    assert forced["message"]["content"] == "zzzzz"
    first = running.chat("alpha", max_tokens=1, logprobs=True).json()["choices"][0]["logprobs"]["content"][0]
    spelled = first["token"]
    (favourite,) = [
        id for id in range(running.base.profile.vocab_size) if running.base.tokenizer.decode([id]) == spelled
    ][:1]
    other = running.chat("alpha", max_tokens=1, logprobs=True, logit_bias={str(favourite): -100})
    assert other.json()["choices"][0]["logprobs"]["content"][0]["token"] != spelled


def test_a_bias_for_a_token_that_is_not_there_is_refused(running: Running) -> None:
    error = running.chat("alpha", logit_bias={"99999": 1})
    assert (error.status_code, error.json()["error"]["param"]) == (400, "logit_bias")
    assert running.gateway.residency.stats().leased == 0


@pytest.mark.parametrize("temperature", [0, 1.3])
@pytest.mark.parametrize("model", ["alpha", None])
def test_a_schema_is_kept(running: Running, model: str | None, temperature: float) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA, "strict": True}}
    response = running.chat(
        model or running.base_name, max_tokens=100, temperature=temperature, seed=3, n=2, response_format=wanted
    )
    for choice in response.json()["choices"]:
        value = json.loads(choice["message"]["content"])
        assert choice["finish_reason"] == "stop"
        assert value["name"] in "ab"
        assert 0 <= value["age"] <= 99


def test_an_object_is_an_object(running: Running) -> None:
    response = running.chat(
        "alpha", max_tokens=400, response_format={"type": "json_object"}, temperature=1, seed=1, logit_bias={}
    )
    choice = response.json()["choices"][0]
    text = choice["message"]["content"]
    assert text.startswith("{")
    assert choice["finish_reason"] == "length" or isinstance(json.loads(text), dict)


def test_a_schema_that_cannot_be_had_is_the_callers_fault(running: Running) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nothing"}}}
    error = running.chat("alpha", response_format=wanted)
    assert (error.status_code, error.json()["error"]["param"]) == (400, "response_format")


def test_echo_repeats_the_prompt(running: Running) -> None:
    plain, echoed = (answered(running, echo=echo)["choices"][0]["text"] for echo in (False, True))
    assert echoed == "Once upon" + plain
    ids = running.base.tokenizer.encode("Once upon")
    assert answered(running, prompt=ids, echo=True)["choices"][0]["text"] == echoed
    both = answered(running, prompt=["Once upon", "The end"], echo=True, n=2, temperature=1, seed=1)["choices"]
    assert [choice["text"][:7] for choice in both] == ["Once up", "Once up", "The end", "The end"]


def test_echoed_prompts_are_scored(running: Running) -> None:
    prompt = "Grüße, 馬"
    choice = answered(running, prompt=prompt, echo=True, logprobs=2)["choices"][0]
    logprobs, ids = choice["logprobs"], running.base.tokenizer.encode(prompt)
    assert len(logprobs["tokens"]) == len(ids) + 6
    assert {len(logprobs[key]) for key in ("tokens", "token_logprobs", "top_logprobs", "text_offset")} == {len(ids) + 6}
    assert logprobs["token_logprobs"][0] is None
    assert logprobs["top_logprobs"][0] is None
    assert all(value <= 0 for value in logprobs["token_logprobs"][1:])
    assert all(len(top) >= 1 for top in logprobs["top_logprobs"][1:])
    assert logprobs["text_offset"][len(ids)] == len(prompt)
    assert logprobs["text_offset"] == sorted(logprobs["text_offset"])
    by_ids = answered(running, prompt=ids, echo=True, logprobs=2)["choices"][0]
    assert by_ids["text"] == choice["text"]
    assert by_ids["logprobs"]["token_logprobs"] == logprobs["token_logprobs"]
    assert by_ids["logprobs"]["text_offset"][len(ids)] == len(prompt)


def test_a_prompt_can_be_scored_alone(running: Running) -> None:
    scored = answered(running, echo=True, logprobs=1, max_tokens=0)
    assert scored["choices"][0]["text"] == "Once upon"
    assert scored["choices"][0]["finish_reason"] == "length"
    assert scored["usage"]["completion_tokens"] == 0
    again = answered(running, echo=True, logprobs=1, max_tokens=3)["choices"][0]["logprobs"]
    assert again["token_logprobs"][:9] == pytest.approx(scored["choices"][0]["logprobs"]["token_logprobs"][:9])
    assert complete(running, max_tokens=0).json()["error"]["param"] == "max_tokens"


def test_echo_streams_the_prompt_first(running: Running) -> None:
    whole = answered(running, echo=True)["choices"][0]["text"]
    response = complete(running, echo=True, stream=True)
    chunks = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: {")]
    texts = [choice["text"] for chunk in chunks for choice in chunk["choices"]]
    assert texts[0] == "Once upon"
    assert "".join(texts) == whole


def test_min_tokens_hold_off_the_end_and_stop_strings(running: Running) -> None:
    whole = running.chat("alpha", max_tokens=30, ignore_eos=True).json()["choices"][0]["message"]["content"]
    early = running.chat("alpha", max_tokens=30, ignore_eos=True, stop=[whole[2:4]])
    held = running.chat("alpha", max_tokens=30, ignore_eos=True, stop=[whole[2:4]], min_tokens=20)
    assert early.json()["usage"]["completion_tokens"] < 20 <= held.json()["usage"]["completion_tokens"]
    assert running.chat("alpha", max_tokens=3, min_tokens=4).json()["error"]["param"] == "min_tokens"
