from __future__ import annotations

from typing import Any

import msgspec
import pytest

from registry.errors import Invalid
from serving.gateway.dialect.messages import template_messages
from serving.gateway.wire.chat import Message

CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Graz"}'}}


def told(message: dict[str, Any]) -> dict[str, Any]:
    return template_messages([msgspec.convert(message, Message)])[0]


def test_a_developer_is_a_system_to_templates() -> None:
    assert told({"role": "developer", "content": "be brief"}) == {"role": "system", "content": "be brief"}


def test_parts_are_joined() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert told({"role": "user", "content": parts})["content"] == "ab"


def test_an_assistant_may_only_call() -> None:
    message = told({"role": "assistant", "tool_calls": [CALL]})
    assert message["content"] == ""
    assert message["tool_calls"][0]["function"] == {"name": "weather", "arguments": {"city": "Graz"}}


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "user"}, "messages[0].content"),
        ({"role": "user", "content": "hi", "tool_calls": [CALL]}, "messages[0].tool_calls"),
        ({"role": "tool", "content": "9 degrees"}, "messages[0].tool_call_id"),
        ({"role": "user", "content": [{"type": "image_url"}]}, "messages[0].content[0]"),
    ],
)
def test_what_nobody_can_say_is_refused_by_its_field(message: dict[str, Any], param: str) -> None:
    with pytest.raises(Invalid) as caught:
        told(message)
    assert caught.value.param == param
