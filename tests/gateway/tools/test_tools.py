"""Function calling over HTTP: forced by grammar on a random base, so that real calls come out of nonsense."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import openai
import pytest

from serving.gateway.tools.grammar import rules_of
from serving.gateway.tools.offer import offer_of
from serving.gateway.wire.tool import Function, NamedFunction, NamedTool, Tool
from serving.grammar import Grammars

if TYPE_CHECKING:
    from serving.base import Base
    from tests.gateway.conftest import Running

WEATHER = {
    "type": "object",
    "properties": {"city": {"enum": ["Oslo", "Rome"]}, "days": {"$ref": "#/$defs/days"}},
    "required": ["city", "days"],
    "additionalProperties": False,
    "$defs": {"days": {"type": "integer", "minimum": 1, "maximum": 9}},
}
TIME = {"type": "object", "properties": {}, "additionalProperties": False}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "weather", "description": "Forecast", "parameters": WEATHER}},
    {"type": "function", "function": {"name": "time", "parameters": TIME}},
]
MESSAGES: list[Any] = [{"role": "user", "content": "What is the weather in Oslo?"}]


@pytest.fixture
def client(tooled: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{tooled.server.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def test_a_call_that_is_required_is_made(tooled: Running, client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=tooled.base_name,
        messages=MESSAGES,
        tools=TOOLS,
        tool_choice="required",
        parallel_tool_calls=False,
        seed=3,
    )
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    assert call.id.startswith("call_")
    arguments = json.loads(call.function.arguments)
    assert call.function.name in ("weather", "time")
    assert set(arguments) == ({"city", "days"} if call.function.name == "weather" else set())


def test_a_call_that_is_named_is_made_and_satisfies_its_schema(tooled: Running, client: openai.OpenAI) -> None:
    for seed in range(4):
        answer = client.chat.completions.create(
            model=tooled.base_name,
            messages=MESSAGES,
            tools=TOOLS,
            tool_choice={"type": "function", "function": {"name": "weather"}},
            seed=seed,
        )
        (call,) = answer.choices[0].message.tool_calls or []
        assert call.type == "function"
        arguments = json.loads(call.function.arguments)
        assert arguments["city"] in ("Oslo", "Rome")
        assert 1 <= arguments["days"] <= 9


def test_a_stream_tells_the_same_calls(tooled: Running, client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": tooled.base_name,
        "messages": MESSAGES,
        "tools": TOOLS,
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "seed": 5,
        "n": 2,
    }
    whole = client.chat.completions.create(**asked)
    with client.chat.completions.stream(**asked) as stream:
        for _ in stream:
            pass
        streamed = stream.get_final_completion()
    for one, other in zip(whole.choices, streamed.choices, strict=True):
        assert other.finish_reason == "tool_calls"
        told = [(call.function.name, call.function.arguments) for call in one.message.tool_calls or []]
        assert [(call.function.name, call.function.arguments) for call in other.message.tool_calls or []] == told


def test_arguments_are_streamed_piece_by_piece(tooled: Running) -> None:
    body = {
        "model": tooled.base_name,
        "messages": MESSAGES,
        "tools": TOOLS[:1],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "stream": True,
    }
    with tooled.http.stream("POST", "/v1/chat/completions", json=body) as response:
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    deltas = [json.loads(line)["choices"][0]["delta"] for line in lines[:-1]]
    calls = [call for delta in deltas for call in delta.get("tool_calls", [])]
    assert calls[0]["function"] == {"name": "weather", "arguments": ""}
    assert set(calls[0]) == {"index", "id", "type", "function"}
    assert len(calls) > 5
    assert all(set(call) == {"index", "function"} for call in calls[1:])
    assert not any(delta.get("content") for delta in deltas)


def test_a_conversation_with_calls_goes_on(tooled: Running, client: openai.OpenAI) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    messages = [
        *MESSAGES,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain <|im_end|>"},
    ]
    answer = client.chat.completions.create(
        model=tooled.base_name, messages=messages, tools=TOOLS, tool_choice="none", max_tokens=4
    )
    assert answer.choices[0].finish_reason in ("length", "stop")
    tokens = tooled.http.post("/v1/tokenize", json={"messages": messages, "tools": TOOLS}).json()["tokens"]
    text = tooled.base.tokenizer.decode(tokens)
    assert '"arguments": {"city": "Oslo"}}' in text
    assert '"description": "Forecast"' in text
    ends = tooled.base.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert tokens.count(ends) == 4  # what the tool says ends nothing
    without = client.chat.completions.create(model=tooled.base_name, messages=MESSAGES, max_tokens=1)
    hidden = client.chat.completions.create(
        model=tooled.base_name, messages=MESSAGES, tools=TOOLS, tool_choice="none", max_tokens=1
    )
    assert without.usage == hidden.usage


def test_what_may_be_called_may_be_left(tooled: Running, client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=tooled.base_name, messages=MESSAGES, tools=TOOLS, max_tokens=12, temperature=0
    )
    assert answer.choices[0].message.tool_calls is None
    assert answer.choices[0].message.content


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [*TOOLS, TOOLS[0]]}, "tools[2].function.name"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        ({"tool_choice": {"type": "function", "function": {"name": "nobody"}}}, "tool_choice"),
        ({"tools": None, "tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "required", "response_format": {"type": "json_object"}}, "response_format"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "strict": True, "parameters": {"type": "odd"}}}]},
            "tools[0].function.parameters",
        ),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "assistant"}]}, "messages[0].content"),
    ],
)
def test_what_is_wrong_is_named(tooled: Running, fields: dict[str, Any], param: str) -> None:
    body = {"model": tooled.base_name, "messages": MESSAGES, "tools": TOOLS, "max_tokens": 1, **fields}
    response = tooled.http.post("/v1/chat/completions", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


def test_a_base_without_tools_in_its_template_says_so(running: Running) -> None:
    refused = running.chat("alpha", tools=TOOLS)
    assert refused.status_code == 400
    assert refused.json()["error"] | {"message": ""} == {
        "message": "",
        "type": "invalid_request_error",
        "param": "tools",
        "code": "unsupported_parameter",
    }
    assert running.chat("alpha", tools=TOOLS, tool_choice="none").status_code == 200
    told = running.http.post(
        "/v1/chat/completions",
        json={"model": "alpha", "messages": [{"role": "tool", "tool_call_id": "x", "content": "x"}]},
    )
    assert told.json()["error"]["param"] == "messages[0]"


def accepts(base: Base, rules: str, text: str) -> bool:
    """Whether a grammar admits a whole answer."""
    matcher = Grammars(base).from_rules(rules, param="tools").matcher()
    ends = base.tokenizer.eos_token_id
    for token in [*base.tokenizer.encode(text, add_special_tokens=False), ends]:
        if not matcher.allowed()[token]:
            return False
        matcher.take(token)
    return True


STRICT = Tool(type="function", function=Function(name="weather", parameters=WEATHER, strict=True))
LOOSE = Tool(type="function", function=Function(name="time"))
GOOD = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo", "days": 3}}\n</tool_call>'
BAD = GOOD.replace("3", "30")


def test_strict_functions_bind_calls_and_leave_the_rest_free(tooled: Running) -> None:
    offer = offer_of(tooled.base, [STRICT, LOOSE], "auto", None)
    assert offer is not None
    rules = rules_of(offer, None)
    free = ["", "No call < here.", GOOD, f"Well:\n{GOOD}\n{GOOD} Done.", GOOD.replace("weather", "time")]
    assert [accepts(tooled.base, rules, text) for text in free] == [True] * 5
    assert not accepts(tooled.base, rules, BAD)
    assert not accepts(tooled.base, rules, f"Well:\n{BAD}")
    assert not accepts(tooled.base, rules, GOOD.replace("weather", "nobody"))


def test_a_call_or_what_the_format_asks_for(tooled: Running) -> None:
    offer = offer_of(tooled.base, [STRICT], "auto", None)
    assert offer is not None
    rules = rules_of(offer, {"type": "integer"})
    assert [accepts(tooled.base, rules, text) for text in (GOOD, "7", "seven", BAD)] == [True, True, False, False]


def test_one_call_where_one_is_wanted(tooled: Running) -> None:
    one = offer_of(tooled.base, [STRICT, LOOSE], "required", False)
    many = offer_of(tooled.base, [STRICT, LOOSE], "required", None)
    named = offer_of(
        tooled.base, [STRICT, LOOSE], NamedTool(type="function", function=NamedFunction(name="time")), None
    )
    assert one is not None
    assert many is not None
    assert named is not None
    two = f"{GOOD}\n{GOOD}"
    assert [accepts(tooled.base, rules_of(each, None), two) for each in (one, many, named)] == [False, True, False]
    assert [accepts(tooled.base, rules_of(each, None), GOOD) for each in (one, many, named)] == [True, True, False]
    assert not accepts(tooled.base, rules_of(many, None), "")
