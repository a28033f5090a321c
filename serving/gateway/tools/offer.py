"""What a request lets the model call, and whether it must. Compiles no grammar and reads no answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec

from registry.errors import Invalid
from serving.base import Base
from serving.gateway.tools.format import ToolFormat, format_of
from serving.gateway.wire.tool import Function, NamedTool, Tool, ToolChoice


@dataclass(frozen=True)
class Offer:
    """`must`: the answer is a call of one of `callable`."""

    format: ToolFormat
    tools: Sequence[Tool]
    callable: Sequence[Function]
    must: bool
    many: bool
    """Whether several calls may be made in one answer."""
    tokens: Mapping[str, int]
    """What opens and closes calls, as far as the tokenizer has a token for it."""
    is_hidden: bool
    """Whether the token that opens calls is special: no text shows it."""

    @property
    def names(self) -> frozenset[str]:
        return frozenset(function.name for function in self.callable)

    @property
    def is_strict(self) -> bool:
        """Whether a call's arguments must satisfy their schema."""
        return self.must or any(function.strict for function in self.callable)

    def mark(self, text: str) -> str:
        """What opens or closes calls, in a grammar."""
        return f"<[{self.tokens[text]}]>" if text in self.tokens else json.dumps(text)

    @cached_property
    def spelled(self) -> str:
        """About what a template makes of the tools."""
        try:
            return msgspec.json.encode(self.described()).decode()
        except RecursionError as error:
            raise Invalid("tools are nested too deeply", param="tools", code="invalid_value") from error

    def described(self) -> list[dict[str, Any]]:
        """As chat templates take tools."""
        return [{"type": "function", "function": _described(tool.function)} for tool in self.tools]


def offer_of(
    base: Base, tools: Sequence[Tool] | None, choice: ToolChoice | None, parallel: bool | None
) -> Offer | None:
    """None where nothing may be called. Invalid where the base's template knows no tools."""
    if not tools or choice == "none":
        if choice is not None and choice not in ("none", "auto"):
            raise Invalid("tool_choice needs tools", param="tool_choice", code="invalid_value")
        return None
    if (format := format_of(base)) is None:
        raise Invalid(
            "the chat template of this base knows no tools, or none in a form that is read here",
            param="tools",
            code="unsupported_parameter",
        )
    functions = _distinct(tools)
    wanted = list(functions.values())
    if isinstance(choice, NamedTool):
        if (named := functions.get(choice.function.name)) is None:
            message = f"tool_choice names {choice.function.name!r}, which is not among the tools"
            raise Invalid(message, param="tool_choice", code="invalid_value")
        wanted = [named]
    must = choice == "required" or isinstance(choice, NamedTool)
    many = parallel is not False and not isinstance(choice, NamedTool)
    added = {token.content: (id, token.special) for id, token in base.tokenizer.added_tokens_decoder.items()}
    tokens = {text: added[text][0] for text in (format.opens, format.closes) if text in added}
    is_hidden = format.opens in added and added[format.opens][1]
    return Offer(format, tools, wanted, must, many, tokens, is_hidden)


def _distinct(tools: Sequence[Tool]) -> dict[str, Function]:
    functions: dict[str, Function] = {}
    for index, tool in enumerate(tools):
        if tool.function.name in functions:
            where = f"tools[{index}].function.name"
            raise Invalid(f"two tools are called {tool.function.name!r}", param=where, code="invalid_value")
        functions[tool.function.name] = tool.function
    return functions


def _described(function: Function) -> dict[str, Any]:
    return {
        "name": function.name,
        "description": function.description or "",
        "parameters": function.parameters or {"type": "object", "properties": {}},
    }
