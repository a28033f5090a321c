"""A JSON Schema in words, for a cell of a Markdown table. Knows nothing of routes."""

from __future__ import annotations

from typing import Any

import msgspec

Schema = dict[str, Any]
_BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}


def in_words(schema: Schema) -> str:
    """`number, 0 to 2`, `list of [Message](#message), 1 to 4096`, `string or null`."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower().replace('.', '')})"
    if "anyOf" in schema:
        words = [in_words(each) for each in schema["anyOf"]]
        return "".join(f"{each}{',' if ',' in each else ''} or " for each in words[:-1]) + words[-1]
    if "enum" in schema:
        return " or ".join(f"`{msgspec.json.encode(each).decode()}`" for each in schema["enum"])
    kind = schema.get("type")
    if kind == "array":
        return f"list{_of(schema.get('items'))}{_between(schema, 'Items', '')}"
    if kind == "object":
        return f"object{_of(schema.get('additionalProperties'))}{_between(schema, 'Properties', '')}"
    if kind == "string":
        pattern = f" like `{schema['pattern'].strip('^$')}`" if "pattern" in schema else ""
        return f"string{pattern or _between(schema, 'Length', ' characters')}"
    if kind in {"number", "integer"}:
        return f"{kind}{_range(schema)}"
    return str(kind or "anything")


def _of(part: Schema | bool | None) -> str:
    return f" of {in_words(part)}" if isinstance(part, dict) and part else ""


def _between(schema: Schema, what: str, unit: str) -> str:
    least, most = schema.get(f"min{what}"), schema.get(f"max{what}")
    if least is None and most is None:
        return ""
    if least is None:
        return f", at most {most}{unit}"
    return f", at least {least}{unit}" if most is None else f", {least} to {most}{unit}"


def _range(schema: Schema) -> str:
    if "minimum" in schema and "maximum" in schema:
        return f", {schema['minimum']} to {schema['maximum']}"
    bounds = [f"{word} {schema[key]}" for key, word in _BOUNDS.items() if key in schema]
    return f", {' and '.join(bounds)}" if bounds else ""
