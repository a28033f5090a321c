"""The Responses dialect, with the official client and on the wire."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import openai
import pytest

if TYPE_CHECKING:
    from tests.gateway.conftest import Running

TOOL: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}}, "required": ["city"]},
}


VERDICT: Any = {
    "type": "json_schema",
    "name": "verdict",
    "schema": {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    },
}


@pytest.fixture
def client(running: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{running.server.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def post(running: Running, **fields: Any) -> Any:
    body = {"model": "alpha", "input": "hello", "temperature": 0, "max_output_tokens": 8, **fields}
    return running.http.post("/v1/responses", json=body)


def events(running: Running, **fields: Any) -> list[dict[str, Any]]:
    body = {"model": "alpha", "input": "hello", "temperature": 0, "max_output_tokens": 8, "stream": True, **fields}
    with running.http.stream("POST", "/v1/responses", json=body) as response:
        assert response.status_code == 200
        blocks = "".join(response.iter_text()).split("\n\n")
    told = []
    for block in filter(None, blocks):
        name, data = block.split("\n")
        document = json.loads(data.removeprefix("data: "))
        assert document["type"] == name.removeprefix("event: ")
        told.append(document)
    assert [each["sequence_number"] for each in told] == list(range(len(told)))
    return told


def test_a_response_says_what_a_chat_says(running: Running, client: openai.OpenAI) -> None:
    response = client.responses.create(model="alpha", input="hello", temperature=0, max_output_tokens=8)
    chat = running.chat("alpha").json()
    assert response.output_text == chat["choices"][0]["message"]["content"]
    assert response.id.startswith("resp-")
    assert response.object == "response"
    assert response.usage is not None
    assert response.usage.input_tokens == chat["usage"]["prompt_tokens"]
    assert response.usage.output_tokens == chat["usage"]["completion_tokens"]
    assert response.usage.total_tokens == chat["usage"]["total_tokens"]
    assert response.status == ("incomplete" if chat["choices"][0]["finish_reason"] == "length" else "completed")
    assert response.store is False


def test_an_answer_that_was_cut_is_incomplete(running: Running) -> None:
    document = post(running, max_output_tokens=2).json()
    assert (document["status"], document["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert document["output"][0]["status"] == "incomplete"
    assert document["completed_at"] is None
    assert document["max_output_tokens"] == 2


def test_instructions_and_items_are_a_conversation(running: Running) -> None:
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "hel"}, {"type": "input_text", "text": "lo"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "yes"}]},
        {"role": "user", "content": "again"},
    ]
    response = post(running, instructions="Be brief.", input=items).json()
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "again"},
    ]
    chat = running.chat("alpha", messages=messages).json()
    assert response["output"][0]["content"][0]["text"] == chat["choices"][0]["message"]["content"]
    assert response["usage"]["input_tokens"] == chat["usage"]["prompt_tokens"]
    assert response["instructions"] == "Be brief."


def test_the_events_of_a_text_come_in_order(running: Running) -> None:
    told = events(running)
    kinds = [each["type"] for each in told]
    deltas = kinds.count("response.output_text.delta")
    whole = post(running).json()
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * deltas,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        f"response.{whole['status']}",
    ]
    assert told[0]["response"]["status"] == told[1]["response"]["status"] == "in_progress"
    (item,) = told[-1]["response"]["output"]
    text = "".join(each["delta"] for each in told if each["type"] == "response.output_text.delta")
    assert text == item["content"][0]["text"] == whole["output"][0]["content"][0]["text"]
    assert told[-1]["response"]["usage"] == whole["usage"]
    about_item = [each for each in told if "item_id" in each]
    assert {each["item_id"] for each in about_item} == {item["id"]}
    assert {each["output_index"] for each in about_item} == {0}


def test_the_official_client_follows_the_stream(running: Running, client: openai.OpenAI) -> None:
    asked: Any = {"model": "beta", "input": "hello", "temperature": 0, "text": {"format": VERDICT}}
    with client.responses.stream(**asked) as stream:
        for _ in stream:
            pass
        final = stream.get_final_response()
    assert final.status == "completed"
    assert final.output_text == client.responses.create(**asked).output_text
    assert set(json.loads(final.output_text)) == {"ok"}


def test_log_probabilities_are_told(running: Running) -> None:
    whole = post(running, top_logprobs=2, include=["message.output_text.logprobs"]).json()
    told = whole["output"][0]["content"][0]["logprobs"]
    assert len(told) == whole["usage"]["output_tokens"]
    assert {len(each["top_logprobs"]) for each in told} == {2}
    streamed = events(running, top_logprobs=2)
    assert streamed[-1]["response"]["output"][0]["content"][0]["logprobs"] == told


def test_a_schema_binds_the_text(running: Running) -> None:
    document = post(running, text={"format": VERDICT}, max_output_tokens=40).json()
    assert set(json.loads(document["output"][0]["content"][0]["text"])) == {"ok"}
    assert document["text"]["format"] == VERDICT


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"store": True}, "store"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"truncation": "auto"}, "truncation"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [TOOL]}, "tools"),
        ({"reasoning": {"effort": "high"}}, "reasoning.effort"),
        ({"input": []}, "input"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0]"),
        ({"input": "a" * 4000}, "input"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({"text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "odd"}}}}, "text.format"),
        ({"max_output_tokens": 1 << 20}, "input"),
    ],
)
def test_what_cannot_be_had_is_named(running: Running, fields: dict[str, Any], param: str) -> None:
    response = post(running, **fields)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


def test_nothing_is_kept(running: Running) -> None:
    response = post(running, store=False, metadata={"team": "a"}).json()
    assert response["metadata"] == {"team": "a"}
    assert running.http.get(f"/v1/responses/{response['id']}").status_code == 404


def test_a_failure_in_the_stream_is_an_event(running: Running) -> None:
    format = {"type": "json_schema", "name": "long", "schema": {"type": "string", "minLength": 400}}
    body = {"model": "alpha", "input": "hello", "stream": True, "text": {"format": format}}
    told: dict[str, Any] = {}
    with running.http.stream("POST", "/v1/responses", json=body) as response:
        for line in response.iter_lines():
            if line.startswith("data: "):
                told = json.loads(line.removeprefix("data: "))
                if told["type"] == "response.created":
                    running.gateway.engine.abort(f"{told['response']['id']}-0")
    assert told["type"] == "response.failed"
    assert told["response"]["status"] == "failed"
    assert told["response"]["error"]["message"]
