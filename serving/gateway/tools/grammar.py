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
ANY_TEXT = "text: /(.|\\n)*/"


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
    calls, framing = _framed(offer)
    if content is not None:
        return f"{calls} | content", framing
    if offer.must:
        return calls, framing
    if offer.format.closes:
        return _among_text(offer, framing)
    if offer.format.may_be_bare:
        return f"{calls} | text", [*framing, "text: /([^{ \\n](.|\\n)*)?/"]
    return f"{calls} | text", [*framing, ANY_TEXT]


def _framed(offer: Offer) -> tuple[str, list[str]]:
    """Nothing but calls."""
    format, more = offer.format, "*" if offer.many else "~0"
    if format.closes:
        framing = [f"opened: {offer.mark(format.opens)} closed", f"closed: gap object gap {offer.mark(format.closes)}"]
        return f"opened (gap opened){more}", framing
    if format.is_list:
        return f'{offer.mark(format.opens)} gap "[" object (", " object){more} "]"', []
    return f'object ("; " object){more}', []


def _among_text(offer: Offer, framing: list[str]) -> tuple[str, list[str]]:
    """Calls anywhere in a text. A token that opens them is no text; else the text ends with what opens them."""
    format, more = offer.format, "*" if offer.many else "?"
    if format.opens in offer.tokens:
        return f"text (opened text){more}", [*framing, ANY_TEXT]
    return f"(lead closed){more} text", [*framing[1:], f"lead[lazy]: /(.|\\n)*{format.opens}/", ANY_TEXT]


def _json(schema: Mapping[str, Any]) -> str:
    return "%json " + json.dumps({**schema, "x-guidance": OPTIONS})
