"""`response_format`: what an answer must look like. Compiles nothing itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from registry.errors import Invalid
from serving.gateway.wire.generation import ResponseFormat

if TYPE_CHECKING:
    from serving.grammar import Grammar, Grammars

ANY_OBJECT: Mapping[str, Any] = {"type": "object"}


def schema_of(wanted: ResponseFormat | None) -> Mapping[str, Any] | None:
    """The JSON schema of the answer; None where any text will do."""
    match wanted.type if wanted is not None else "text":
        case "text":
            return None
        case "json_object":
            return ANY_OBJECT
        case "json_schema" if wanted is not None and wanted.json_schema is not None:
            return wanted.json_schema.schema
        case "json_schema":
            raise Invalid("json_schema is missing", param="response_format.json_schema", code="invalid_value")
        case other:
            message = f"response_format is text, json_object or json_schema, not {other!r}"
            raise Invalid(message, param="response_format.type", code="invalid_value")


def format_grammar(wanted: ResponseFormat | None, grammars: Grammars) -> Grammar | None:
    """Compiles, which may take a while."""
    schema = schema_of(wanted)
    return None if schema is None else grammars.from_schema(schema)
