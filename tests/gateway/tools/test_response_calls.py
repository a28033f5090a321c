"""Function calling in the dialect of Responses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.gateway.conftest import Running

TOOL: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}}, "required": ["city"]},
}


def streamed(running: Running, **fields: Any) -> list[dict[str, Any]]:
    with running.http.stream("POST", "/v1/responses", json={**fields, "stream": True}) as response:
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines]


def test_a_function_is_called_and_its_output_taken(tooled: Running) -> None:
    asked: dict[str, Any] = {
        "model": tooled.base_name,
        "input": "What is the weather?",
        "tools": [TOOL],
        "tool_choice": {"type": "function", "name": "weather"},
        "temperature": 0,
        "max_output_tokens": 300,
    }
    document = tooled.http.post("/v1/responses", json=asked).json()
    (call,) = document["output"]
    assert (call["type"], call["name"], call["status"]) == ("function_call", "weather", "completed")
    assert json.loads(call["arguments"])["city"] in ("Oslo", "Rome")
    told = streamed(tooled, **asked)
    kinds = [each["type"] for each in told]
    pieces = kinds.count("response.function_call_arguments.delta")
    assert kinds[2:-1] == [
        "response.output_item.added",
        *["response.function_call_arguments.delta"] * pieces,
        "response.function_call_arguments.done",
        "response.output_item.done",
    ]
    given = [
        {"role": "user", "content": "What is the weather?"},
        {key: call[key] for key in ("type", "call_id", "name", "arguments", "id", "status")},
        {"type": "function_call_output", "call_id": call["call_id"], "output": "rain"},
    ]
    after = tooled.http.post("/v1/responses", json={**asked, "input": given, "tool_choice": "none"})
    assert after.status_code == 200, after.text
    assert after.json()["usage"]["input_tokens"] > 0
