from __future__ import annotations

from typing import Any

import msgspec
import pytest

from registry.errors import Invalid
from serving.base import Base
from serving.gateway.dialect.formats import form_of
from serving.gateway.wire.generation import Generate
from serving.grammar import Grammar, Grammars

INTEGER = {"type": "integer"}
CHOICE = ["yes", 'no "way"\\', "日本", "yes, but"]


def grammar(base: Base | Grammars, **fields: Any) -> Grammar | None:
    grammars = base if isinstance(base, Grammars) else Grammars(base)
    form = form_of(msgspec.convert({"model": "m", **fields}, Generate))
    return None if form is None else form.grammar(grammars)


def json_schema(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": json_schema({"type": "nothing"})}, "response_format"),
        ({"guided_json": {"type": "nothing"}}, "guided_json"),
        ({"guided_json": "{"}, "guided_json"),
        ({"guided_json": "[" * 100_000}, "guided_json"),
        ({"guided_regex": "("}, "guided_regex"),
        ({"guided_regex": "a", "guided_choice": ["a"]}, "guided_choice"),
        ({"response_format": {"type": "text"}, "structured_outputs": {"regex": "a"}}, "structured_outputs"),
        ({"structured_outputs": {}}, "structured_outputs"),
        ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs"),
        ({"structured_outputs": {"json": "7"}}, "structured_outputs.json"),
        ({"structured_outputs": {"regex": "[z-a]"}}, "structured_outputs.regex"),
        ({"structured_outputs": {"grammar": "root ::= a"}}, "structured_outputs.grammar"),
    ],
)
def test_odd_forms_are_named(fields: dict[str, Any], param: str, tiny_base: Base) -> None:
    with pytest.raises(Invalid) as caught:
        grammar(tiny_base, **fields)
    assert caught.value.param == param


def test_forms_become_grammars(tiny_base: Base) -> None:
    grammars = Grammars(tiny_base)
    assert grammar(grammars) is grammar(grammars, response_format={"type": "text"}) is None
    assert grammar(grammars, response_format={"type": "json_object"}) is grammars.any_object()
    assert grammar(grammars, structured_outputs={"json_object": True}) is grammars.any_object()
    integers = grammars.from_schema(INTEGER)
    assert grammar(grammars, response_format=json_schema(INTEGER)) is integers
    assert grammar(grammars, guided_json=INTEGER) is grammar(grammars, guided_json='{"type": "integer"}') is integers
    assert grammar(grammars, structured_outputs={"json": INTEGER}) is integers
    assert grammar(grammars, structured_outputs={"regex": "a+"}) is grammar(grammars, guided_regex="a+")


@pytest.mark.parametrize(
    ("fields", "yes", "no"),
    [
        ({"guided_regex": r"\d{4}/\d\d"}, ["2024/05"], ["2024/5", "a"]),
        ({"guided_regex": "a\nb"}, ["a\nb"], ["ab"]),
        (
            {"guided_choice": ["yes", 'no "way"\\', "日本", "yes, but"]},
            ["yes", 'no "way"\\', "日本", "yes, but"],
            ["y", "way"],
        ),
    ],
)
def test_only_what_has_the_form_is_a_whole_answer(fields: Any, yes: list[str], no: list[str], tiny_base: Base) -> None:
    made = grammar(tiny_base, **fields)
    assert made is not None
    for text in [*yes, *no]:
        matcher, fits = made.matcher(), True
        for token in [*tiny_base.tokenizer.encode(text, add_special_tokens=False), min(tiny_base.eos_token_ids)]:
            fits = fits and bool(matcher.allowed()[token])
            if fits:
                matcher.take(token)
        assert fits == (text in yes), text
