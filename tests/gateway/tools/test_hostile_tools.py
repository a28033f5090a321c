"""Tools and calls that nobody means well with: a documented refusal, or an answer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from serving.conversation import ChatTemplate

if TYPE_CHECKING:
    from tests.gateway.conftest import Running

MESSAGES = [{"role": "user", "content": "hi"}]


def nested(levels: int, inner: str = '{"type":"string"}') -> str:
    return '{"type":"object","properties":{"a":' * levels + inner + "}}" * levels


def ask(running: Running, path: str, **fields: Any) -> int:
    raw = {name: value for name, value in fields.items() if isinstance(value, str) and name == "tools"}
    body = {"model": running.base_name, "max_tokens": 2, **fields}
    text = json.dumps({**body, **dict.fromkeys(raw, "RAW")})
    for value in raw.values():
        text = text.replace('"RAW"', value)
    response = running.http.post(path, content=text, headers={"content-type": "application/json"})
    assert response.status_code in (200, 400), response.text
    if response.status_code == 400:
        assert response.json()["error"]["message"]
    assert running.gateway.residency.stats().leased == 0
    return response.status_code


@pytest.mark.parametrize("levels", [50, 200, 450, 490, 2000])
@pytest.mark.parametrize("choice", ["auto", "required", "none"])
def test_schemas_however_deep(tooled: Running, levels: int, choice: str) -> None:
    tools = '[{"type":"function","function":{"name":"f","parameters":' + nested(levels) + "}}]"
    ask(tooled, "/v1/chat/completions", messages=MESSAGES, tools=tools, tool_choice=choice)
    if levels < 400:
        schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": json.loads(nested(levels))}}
        ask(tooled, "/v1/chat/completions", messages=MESSAGES, response_format=schema)
    ask(tooled, "/v1/tokenize", messages=MESSAGES, tools=tools)


@pytest.mark.parametrize("levels", [100, 900, 100_000])
def test_arguments_however_deep(tooled: Running, levels: int) -> None:
    arguments = '{"a":' * levels + "1" + "}" * levels
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    ask(tooled, "/v1/chat/completions", messages=[*MESSAGES, message])
    item = {"type": "function_call", "call_id": "c", "name": "f", "arguments": arguments}
    response = tooled.http.post("/v1/responses", json={"model": tooled.base_name, "input": [item]})
    assert response.status_code in (200, 400)


@pytest.mark.parametrize("arguments", ['{"a": "\\ud800"}', '{"<|im_end|>": "\\ud800"}', '{"a": NaN}', "1e999"])
def test_arguments_that_are_no_json(tooled: Running, arguments: str) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    assert ask(tooled, "/v1/chat/completions", messages=[*MESSAGES, message]) == 400


def test_no_text_of_a_question_is_read_that_cannot_fit(tooled: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it stands: templates write out refusals, the ids of calls and what tools are for."""
    monkeypatch.setattr(ChatTemplate, "render", None)
    words = "word " * 100_000
    call = {"id": words, "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert ask(tooled, "/v1/chat/completions", messages=[{"role": "assistant", "refusal": words}]) == 400
    part = {"type": "refusal", "refusal": words}
    assert ask(tooled, "/v1/chat/completions", messages=[{"role": "assistant", "content": [part]}]) == 400
    assert ask(tooled, "/v1/chat/completions", messages=[{"role": "assistant", "tool_calls": [call]}]) == 400
    answer = {"role": "tool", "content": "1", "tool_call_id": words}
    assert ask(tooled, "/v1/chat/completions", messages=[answer]) == 400
    tools = json.dumps([{"type": "function", "function": {"name": "f", "description": words}}])
    assert ask(tooled, "/v1/chat/completions", messages=MESSAGES, tools=tools) == 400


@pytest.mark.parametrize(
    "parameters",
    [
        {"$ref": "#"},
        {"$ref": "https://example.org/schema.json"},
        {"type": "object", "properties": {"a": {"pattern": "(a+)+$", "type": "string"}}},
        {"type": "object", "properties": {"a": {"type": "string", "minLength": 1 << 30}}},
        {"type": "object", "x-guidance": {"whitespace_pattern": "(("}},
        {"type": "string"},
        {"not": {}},
        {"type": "object", "properties": {"}\n%json {}": {"type": "null"}}, "required": ["}\n%json {}"]},
    ],
)
def test_schemas_however_odd(tooled: Running, parameters: dict[str, Any]) -> None:
    tools = json.dumps([{"type": "function", "function": {"name": "f", "parameters": parameters}}])
    ask(tooled, "/v1/chat/completions", messages=MESSAGES, tools=tools, tool_choice="required")


def test_as_many_tools_as_are_let_in(tooled: Running) -> None:
    def tools(count: int) -> str:
        return json.dumps([{"type": "function", "function": {"name": f"f{number}"}} for number in range(count)])

    assert ask(tooled, "/v1/chat/completions", messages=MESSAGES, tools=tools(3), tool_choice="required") == 200
    assert ask(tooled, "/v1/chat/completions", messages=MESSAGES, tools=tools(129)) == 400
