"""Conversations with calls are kept whole: the tools, the calls, their results; and redacted in every part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from registry.captures.rows import training_row
from tests.gateway.test_capturing import captured
from tests.gateway.tools.test_tools import TOOLS

if TYPE_CHECKING:
    from tests.gateway.conftest import Running


def test_a_conversation_with_calls_is_kept(tooled: Running) -> None:
    tooled.publish("clerk", 41, policy={"capture": True, "redact": ["email"]})
    call = {"id": "call_1", "type": "function", "function": {"name": "time", "arguments": '{"for": "ada@example.org"}'}}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "What time is it for ada@example.org?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "ada@example.org: noon"},
    ]
    choice = {"type": "function", "function": {"name": "weather"}}
    answer = tooled.chat("clerk", messages=messages, tools=TOOLS, tool_choice=choice, max_tokens=200)
    assert answer.json()["choices"][0]["finish_reason"] == "tool_calls", answer.text
    (found,) = captured(tooled, "clerk", 1)
    assert [each["role"] for each in found.messages] == ["user", "assistant", "tool"]
    assert found.messages[1]["tool_calls"][0]["function"]["name"] == "time"
    assert [each["function"]["name"] for each in found.tools] == ["weather", "time"]
    assert "weather" in found.response, "the call as the model wrote it"
    assert "example.org" not in repr(found)
    assert repr(found).count("[email]") == 3
    assert training_row(found) is None, "the trainer reads plain chats"
