"""What an answer must look like: `response_format`, and vLLM's `structured_outputs` and `guided_*`. Compiles nothing
itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from registry.errors import Invalid
from serving.gateway.wire.generation import Generate, ResponseFormat, Structure

if TYPE_CHECKING:
    from serving.grammar import Grammar, Grammars

FIELDS = ("response_format", "structured_outputs", "guided_json", "guided_regex", "guided_choice")
ANY_OBJECT: Mapping[str, Any] = {"type": "object"}


@dataclass(frozen=True)
class Form:
    """A JSON schema, a regular expression, or texts to choose from; `param` is the field that says so."""

    param: str
    schema: Mapping[str, Any] | None = None
    regex: str | None = None
    choice: Sequence[str] = ()

    def grammar(self, grammars: Grammars) -> Grammar:
        """Compiles, which may take a while."""
        if self.schema is not None:
            try:
                return grammars.from_schema(self.schema)
            except Invalid as error:
                raise Invalid(error.message, param=self.param, code="invalid_value") from error
        if self.regex is not None:
            return grammars.from_regex(self.regex, param=self.param)
        return grammars.from_rules("start: " + " | ".join(map(json.dumps, self.choice)), param=self.param)


def form_of(body: Generate) -> Form | None:
    """None where any text will do; Invalid where two fields speak of it."""
    given = [name for name in FIELDS if getattr(body, name) is not None]
    if len(given) > 1:
        complaint = f"{given[0]} and {given[1]} both say what the answer is to look like"
        raise Invalid(complaint, param=given[1], code="invalid_value")
    if body.response_format is not None:
        return _of_format(body.response_format)
    if body.structured_outputs is not None:
        return _of_structure(body.structured_outputs)
    if body.guided_json is not None:
        return Form("guided_json", schema=_schema(body.guided_json, "guided_json"))
    if body.guided_regex is not None:
        return Form("guided_regex", regex=body.guided_regex)
    return Form("guided_choice", choice=body.guided_choice) if body.guided_choice is not None else None


def _of_format(wanted: ResponseFormat) -> Form | None:
    match wanted.type:
        case "text":
            return None
        case "json_object":
            return Form("response_format", schema=ANY_OBJECT)
        case "json_schema" if wanted.json_schema is not None:
            return Form("response_format", schema=wanted.json_schema.schema)
        case "json_schema":
            raise Invalid("json_schema is missing", param="response_format.json_schema", code="invalid_value")
        case other:
            message = f"response_format is text, json_object or json_schema, not {other!r}"
            raise Invalid(message, param="response_format.type", code="invalid_value")


def _of_structure(wanted: Structure) -> Form:
    for name in ("grammar", "structural_tag"):
        if getattr(wanted, name) is not None:
            where = f"structured_outputs.{name}"
            raise Invalid(f"{where} is not supported here", param=where, code="unsupported_parameter")
    forms, where = [], "structured_outputs.json"
    if wanted.json is not None:
        forms.append(Form(where, schema=_schema(wanted.json, where)))
    if wanted.json_object:
        forms.append(Form(where, schema=ANY_OBJECT))
    if wanted.regex is not None:
        forms.append(Form("structured_outputs.regex", regex=wanted.regex))
    if wanted.choice is not None:
        forms.append(Form("structured_outputs.choice", choice=wanted.choice))
    if len(forms) != 1:
        complaint = "structured_outputs has one of json, json_object, regex and choice"
        raise Invalid(complaint, param="structured_outputs", code="invalid_value")
    return forms[0]


def _schema(given: Mapping[str, Any] | str, param: str) -> Mapping[str, Any]:
    """vLLM takes a schema as text, too."""
    if not isinstance(given, str):
        return given
    try:
        schema: dict[str, Any] = msgspec.json.decode(given, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise Invalid(f"{param} is no JSON schema: {error}", param=param, code="invalid_value") from error
    return schema
