"""Bases whose tokenizers have tokens of their own for calls: Qwen's is text too; Mistral's and Llama's are hidden."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from tokenizers import AddedToken

from registry.settings import Settings
from serving.base import Base, load_base
from serving.gateway.tools.format import HERMES, LLAMA, MISTRAL, ToolFormat
from serving.gateway.tools.grammar import rules_of
from serving.gateway.tools.offer import offer_of
from serving.gateway.wire.tool import Function, Tool
from tests.gateway.conftest import Running, run
from tests.gateway.tools.conftest import TEMPLATE
from tests.gateway.tools.test_tools import MESSAGES, accepts

if TYPE_CHECKING:
    from pathlib import Path

PARAMETERS = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": False}
STRICT = Tool(type="function", function=Function(name="count", parameters=PARAMETERS, strict=True))
TOOLS: list[Any] = [{"type": "function", "function": {"name": "count", "parameters": PARAMETERS}}]
TOKENS = {HERMES: ("<tool_call>", "</tool_call>"), MISTRAL: ("[TOOL_CALLS]",), LLAMA: ("<|python_tag|>",)}


@pytest.fixture(scope="module", params=[HERMES, MISTRAL, LLAMA], ids=["qwen", "mistral", "llama"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Base:
    from benchmarks.soak import tiny

    format: ToolFormat = request.param
    root: Path = tmp_path_factory.mktemp("tokens")
    make = tiny._tokenizer

    def with_tokens() -> Any:
        tokenizer, special = make(), format is not HERMES
        added = [AddedToken(text, special=special, normalized=False) for text in TOKENS[format]]
        tokenizer.add_tokens(added, special_tokens=special)
        return tokenizer

    template = TEMPLATE.replace("<tool_call>", format.opens).replace("</tool_call>", format.closes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "_tokenizer", with_tokens)
        directory = tiny.write_tiny_base(root / "base", hidden_size=48, heads=6, chat_template=template)
    settings: dict[str, Any] = {"base": str(directory), "dtype": "float32", "device": "cpu", "threads": 1}
    return load_base(Settings(cache_dir=str(root / "cache"), **settings))


@pytest.fixture(scope="module")
def gateway(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    yield from run(base, tmp_path_factory.mktemp("gateway"))


def call(base: Base, n: int) -> str:
    """As this base writes it."""
    offer = offer_of(base, [STRICT], "required", None)
    assert offer is not None
    text = json.dumps({"name": "count", offer.format.key: {"n": n}})
    if offer.format.is_list:
        return f"{offer.format.opens} [{text}]"
    return f"{offer.format.opens}\n{text}\n{offer.format.closes}" if offer.format.closes else text


def test_calls_are_made_of_tokens(base: Base) -> None:
    must, may = offer_of(base, [STRICT], "required", None), offer_of(base, [STRICT], "auto", None)
    assert must is not None
    assert may is not None
    for rules in (rules_of(must, None), rules_of(may, None), rules_of(may, {"type": "integer"})):
        assert accepts(base, rules, call(base, 2))
        assert not accepts(base, rules, call(base, 3))
    assert accepts(base, rules_of(may, None), "No call.")
    assert not accepts(base, rules_of(must, None), "No call.")
    if may.format is HERMES:
        assert accepts(base, rules_of(may, None), f"Look: {call(base, 1)}\n{call(base, 2)} There.")


@pytest.mark.parametrize("parallel", [True, False])
def test_calls_are_read_whole_and_streamed(gateway: Running, parallel: bool) -> None:
    body = {
        "model": gateway.base_name,
        "messages": MESSAGES,
        "tools": TOOLS,
        "tool_choice": "required",
        "parallel_tool_calls": parallel,
        "max_tokens": 300,
        "seed": 1,
    }
    choice = gateway.http.post("/v1/chat/completions", json=body).json()["choices"][0]
    calls = choice["message"]["tool_calls"]
    assert len(calls) == 1 or parallel
    short = "[TOOL_CALLS]" in str(gateway.base.tokenizer.chat_template)
    assert all(re.fullmatch("[a-zA-Z0-9]{9}" if short else "call_[0-9a-f]{24}", each["id"]) for each in calls)
    if choice["finish_reason"] == "tool_calls":
        assert choice["message"]["content"] is None
        assert {json.loads(each["function"]["arguments"])["n"] for each in calls} <= {1, 2}
    response = gateway.http.post("/v1/chat/completions", json={**body, "stream": True})
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
    deltas = [json.loads(line)["choices"][0]["delta"] for line in lines[:-1]]
    told = [each for delta in deltas for each in delta.get("tool_calls", [])]
    for index, each in enumerate(calls):
        pieces = [piece["function"] for piece in told if piece["index"] == index]
        assert pieces[0]["name"] == "count"
        assert "".join(piece["arguments"] for piece in pieces) == each["function"]["arguments"]
    text = "".join(delta.get("content", "") for delta in deltas)
    assert (text.rstrip() or None) == choice["message"]["content"]
