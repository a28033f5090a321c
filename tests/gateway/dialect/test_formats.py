from __future__ import annotations

from typing import Any

import msgspec
import pytest

from registry.errors import Invalid
from serving.base import Base
from serving.gateway.dialect.formats import format_grammar
from serving.gateway.wire.generation import ResponseFormat
from serving.grammar import Grammars


def wanted(**fields: Any) -> ResponseFormat:
    return msgspec.convert(fields, ResponseFormat)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"type": "xml"}, "response_format.type"),
        ({"type": "json_schema"}, "response_format.json_schema"),
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nothing"}}}, "response_format"),
    ],
)
def test_odd_response_formats_are_named(fields: dict[str, Any], param: str, tiny_base: Base) -> None:
    with pytest.raises(Invalid) as caught:
        format_grammar(wanted(**fields), Grammars(tiny_base))
    assert caught.value.param == param


def test_response_formats_become_grammars(tiny_base: Base) -> None:
    grammars = Grammars(tiny_base)
    schema = wanted(type="json_schema", json_schema={"name": "x", "schema": {"type": "integer"}})
    assert format_grammar(None, grammars) is format_grammar(wanted(type="text"), grammars) is None
    assert format_grammar(wanted(type="json_object"), grammars) is grammars.any_object()
    assert format_grammar(schema, grammars) is grammars.from_schema({"type": "integer"})
