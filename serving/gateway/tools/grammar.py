"""Answers that are calls, as a grammar: where one must be made, or its arguments must satisfy their schema.

Written in llguidance's Lark, as the base's own format has it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from registry.errors import Invalid
from serving.gateway.tools.offer import Offer
from serving.gateway.wire.tool import Function
from serving.grammar import OPTIONS, Grammar, Grammars

ANYTHING: Mapping[str, Any] = {"type": "object"}


def tool_grammar(offer: Offer, content: Mapping[str, Any] | None, grammars: Grammars) -> Grammar | None:
    """None where the answer is free. `content`: the schema of an answer that calls nothing."""
    if not offer.is_strict and content is None:
        return None
    for index, tool in enumerate(offer.tools):
        try:
            grammars.from_schema(tool.function.parameters or ANYTHING)
        except Invalid as error:
            where = f"tools[{index}].function.parameters"
            raise Invalid(error.message, param=where, code="invalid_value") from error
    return grammars.from_rules(rules_of(offer, content), param="tools")


def rules_of(offer: Offer, content: Mapping[str, Any] | None) -> str:
    calls = [_call(number, function, offer) for number, function in enumerate(offer.callable)]
    start, framing = _start(offer, content)
    rules = [f"start: {start}", *framing, *calls, "object: " + " | ".join(f"call{n}" for n in range(len(calls)))]
    if content is not None:
        rules.append(f"content: {_json(content)}")
    return "\n".join([*rules, "gap: /[ \\n]?/"]) + "\n"


def _call(number: int, function: Function, offer: Offer) -> str:
    """Two rules: a function's call, and its arguments."""
    head = json.dumps('{"name": ' + json.dumps(function.name) + f', "{offer.format.key}": ')
    schema = function.parameters or ANYTHING if offer.must or function.strict else ANYTHING
    return f'call{number}: {head} arguments{number} "}}"\narguments{number}: {_json({"type": "object", **schema})}'


def _start(offer: Offer, content: Mapping[str, Any] | None) -> tuple[str, list[str]]:
    """The first rule, and those that frame calls as the format has it."""
    format, more = offer.format, "*" if offer.many else "~0"
    if format.closes:
        closed = f"gap object gap {json.dumps(format.closes)}"
        calls, framing = f"opened (gap opened){more}", [f"opened: {offer.opening} {closed}"]
        free = f"(lead closed){'*' if offer.many else '?'} tail"
        freely = [f"lead[lazy]: /(.|\\n)*{format.opens}/", f"closed: {closed}", "tail: /(.|\\n)*/"]
    elif format.is_list:
        calls, framing = f'{offer.opening} gap "[" object (", " object){more} "]"', []
        free, freely = f"{calls} | tail", ["tail: /(.|\\n)*/"]
    else:
        calls, framing = f'object ("; " object){more}', []
        free, freely = f"{calls} | tail", ["tail: /([^{ \\n](.|\\n)*)?/"]
    if content is not None:
        return f"{calls} | content", framing
    return (calls, framing) if offer.must else (free, freely)


def _json(schema: Mapping[str, Any]) -> str:
    return "%json " + json.dumps({**schema, "x-guidance": OPTIONS})
