"""The OpenAPI document as a page to read. Knows nothing but the document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from serving.gateway.openapi.schema_text import Schema, in_words

Document = dict[str, Any]
WIDTH = 110
"""Of a line of an example."""
HEAD = """\
# HTTP API

Made from the routes by `python -m serving.gateway.openapi > docs/api.md`; a test compares. A running gateway serves
the same as `/openapi.json`.
"""


def markdown(document: Document) -> str:
    """The whole page."""
    sections = [
        HEAD,
        document["info"]["description"],
        *_failures(document),
        *_headers(document),
        *(line for tag in document["tags"] for line in _tag(document, tag)),
        "## Schemas\n",
        *(_schema(name, schema) for name, schema in document["components"]["schemas"].items()),
    ]
    return "\n".join(sections).rstrip("\n") + "\n"


def _failures(document: Document) -> Iterator[str]:
    """Every error status once, with its meaning and an example."""
    known = document["components"]["responses"]
    yield "## Errors\n"
    for family, where in (("Error", "Under `/v1`"), ("Problem", "Elsewhere")):
        found = {name.removeprefix(family): each for name, each in known.items() if name.startswith(family)}
        schema = next(iter(found["400"]["content"].values()))["schema"]
        yield f"{where}, a document of {in_words(schema)}:\n"
        yield _table(
            ("status", "", "example"), [(key, each["description"], _example(each)) for key, each in found.items()]
        )


def _headers(document: Document) -> Iterator[str]:
    """What requests may carry and responses do."""
    components = document["components"]
    yield "## Headers\n\nOf requests, none of them required:\n"
    asked = [
        (f"`{name}`", in_words(each["schema"]), each["description"]) for name, each in components["parameters"].items()
    ]
    yield _table(("header", "type", ""), asked)
    yield "Of responses:\n"
    yield _table(("header", ""), [(f"`{name}`", each["description"]) for name, each in components["headers"].items()])


def _example(response: dict[str, Any]) -> str:
    (content,) = response["content"].values()
    return f"`{msgspec.json.encode(content['example']).decode()}`"


def _tag(document: Document, tag: dict[str, str]) -> Iterator[str]:
    yield f"## {tag['name']}\n\n{tag['description']}\n"
    for path, method, operation in _operations(document):
        if operation["tags"] == [tag["name"]]:
            yield from _operation(path, method, operation)


def _operations(document: Document) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def _operation(path: str, method: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"### {method.upper()} {path}\n\n{operation['summary']}\n\n{operation['description']}\n"
    yield from _parameters(operation["parameters"])
    if "requestBody" in operation:
        (media,) = operation["requestBody"]["content"].values()
        yield f"Body: {in_words(media['schema'])}.\n"
        for name, example in media["examples"].items():
            yield f"{name.capitalize()}:\n\n{_json(example['value'])}"
    success = operation["responses"]["200"]
    for media_type, content in success["content"].items():
        yield _answer(media_type, content)
    failures = [status for status in operation["responses"] if status != "200"]
    yield f"Errors: {', '.join(failures) or 'none'}.\n"


def _answer(media_type: str, content: dict[str, Any]) -> str:
    if media_type == "text/event-stream":
        event = content["schema"]["properties"]["data"]["anyOf"][0]["contentSchema"]
        return f"With `stream`: events of {in_words(event)}.\n\n```\n{content['x-stream'].rstrip()}\n```\n"
    if isinstance(content["example"], str):
        return f"Answer: `{media_type}`.\n\n```\n{content['example'].rstrip()}\n```\n"
    return f"Answer: {in_words(content['schema'])}.\n\n{_json(content['example'])}"


def _parameters(parameters: list[dict[str, Any]]) -> Iterator[str]:
    """Of the path and the query; headers have a section of their own."""
    rows = [
        (f"`{each['name']}`", each["in"], in_words(each["schema"]), each.get("description", ""))
        for each in parameters
        if "$ref" not in each
    ]
    if rows:
        yield _table(("parameter", "in", "type", ""), rows)


def _schema(name: str, schema: Schema) -> str:
    properties, required = schema.get("properties", {}), set(schema.get("required", ()))
    rows = [
        (f"`{field}`" + ("" if field in required else "?"), in_words(each), each.get("description", ""))
        for field, each in properties.items()
        if "x-refused" not in each
    ]
    told = f"{schema['description']}\n\n" if "description" in schema else ""
    fields = _table(("field", "type", ""), rows) if rows else f"{in_words(schema)}\n"
    return f"### {name}\n\n{told}{fields}{_refused(properties)}"


def _refused(properties: dict[str, Schema]) -> str:
    names = sorted(name for name, each in properties.items() if "x-refused" in each)
    listed = ", ".join(f"`{name}`" for name in names)
    return f"\nRefused by name, unless null or what is done anyway: {listed}.\n" if names else ""


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(_cell(each) for each in line)} |\n" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _json(value: Any) -> str:
    return f"```json\n{_laid_out(value, 0)}\n```\n"


def _laid_out(value: Any, depth: int) -> str:
    """JSON on one line where it fits, else a member a line."""
    flat = msgspec.json.format(msgspec.json.encode(value), indent=0).decode()
    if len(flat) + depth <= WIDTH or not isinstance(value, (dict, list)):
        return flat
    pad = " " * (depth + 2)
    if isinstance(value, dict):
        members = [f"{msgspec.json.encode(key).decode()}: {_laid_out(each, depth + 2)}" for key, each in value.items()]
    else:
        members = [_laid_out(each, depth + 2) for each in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n{pad}" + f",\n{pad}".join(members) + f"\n{' ' * depth}{closing}"
