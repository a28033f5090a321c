"""JSON Schemas of the types that bodies are decoded into and encoded from. Knows no route.

msgspec writes them, so they promise what msgspec enforces; what it leaves out, the docstrings of single fields, is
added from the source.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from functools import cache
from itertools import pairwise
from typing import Any, get_args, get_type_hints

import msgspec

from serving.gateway.openapi.refused import refused

Schema = dict[str, Any]
PREFIX = "#/components/schemas/"
_GENERIC = re.compile(r"^(?P<name>\w+?)_[\w.]+_$")


def schemas(types: Iterable[Any]) -> tuple[dict[Any, Schema], dict[str, Schema]]:
    """For each type its schema, mostly a reference; and the components that the references are to."""
    asked = list(dict.fromkeys(types))
    found, components = msgspec.json.schema_components(asked, ref_template=PREFIX + "{name}")
    names = _short_names(components)
    classes = {name: kind for each in asked for kind in _classes(each) for name in _names_of(kind)}
    told = {names[name]: _renamed(_described(schema, classes.get(name)), names) for name, schema in components.items()}
    return {kind: _renamed(schema, names) for kind, schema in zip(asked, found, strict=True)}, told


def _short_names(components: Mapping[str, Schema]) -> dict[str, str]:
    """A generic class is known by its own name alone, where it is used with one argument only."""
    short = {name: match["name"] if (match := _GENERIC.match(name)) else name for name in components}
    taken = list(short.values())
    return {name: each if taken.count(each) == 1 else name for name, each in short.items()}


def _renamed(schema: Any, names: Mapping[str, str]) -> Any:
    if isinstance(schema, dict):
        return {key: _renamed(value, names) for key, value in schema.items()}
    if isinstance(schema, list):
        return [_renamed(value, names) for value in schema]
    if isinstance(schema, str) and schema.startswith(PREFIX):
        return PREFIX + names[schema.removeprefix(PREFIX)]
    return schema


def _described(schema: Schema, kind: type | None) -> Schema:
    schema = {key: value for key, value in schema.items() if key != "title"}
    if kind is None or "properties" not in schema:
        return schema
    texts: dict[str, Schema] = {name: {"description": text} for name, text in field_docstrings(kind).items()}
    told = {**texts, **refused(kind)}
    properties = {name: {**each, **told.get(name, {})} for name, each in schema["properties"].items()}
    return {**schema, "properties": properties}


@cache
def field_docstrings(kind: type) -> Mapping[str, str]:
    """What the source says below each field of a class, its parents' fields included."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        if each is not msgspec.Struct and _has_fields(each):
            found |= _below_fields(each)
    return found


def _below_fields(kind: type) -> Iterator[tuple[str, str]]:
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(definition, ast.ClassDef)
    for field, text in pairwise(definition.body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            assert isinstance(field.target, ast.Name)
            yield field.target.id, inspect.cleandoc(str(text.value.value))


def _has_fields(kind: type) -> bool:
    return issubclass(kind, msgspec.Struct) or is_dataclass(kind)


def _names_of(kind: type) -> tuple[str, str]:
    return kind.__name__, f"{kind.__module__}.{kind.__qualname__}"


def _classes(kind: Any, seen: set[Any] | None = None) -> Iterator[type]:
    """Every struct and dataclass that a type is made of."""
    seen = set() if seen is None else seen
    if kind in seen:
        return
    seen.add(kind)
    origin = getattr(kind, "__origin__", kind)
    if isinstance(origin, type) and _has_fields(origin):
        yield origin
        for hint in get_type_hints(origin).values():
            yield from _classes(hint, seen)
    for argument in get_args(kind):
        yield from _classes(argument, seen)
