"""The items of a response's input as a chat's messages. Knows no answer."""

from __future__ import annotations

from collections.abc import Sequence

from registry.errors import Invalid
from serving.gateway.wire.chat import Message, TextPart
from serving.gateway.wire.response import InputItem, InputPart
from serving.gateway.wire.tool import FunctionCall, ToolCall

TEXTS = ("input_text", "output_text", "text")


def conversation_of(instructions: str | None, given: str | Sequence[InputItem]) -> list[Message]:
    """Calls that follow one another, or the assistant's text before them, are one message."""
    messages = [] if instructions is None else [Message(role="system", content=instructions)]
    if isinstance(given, str):
        return [*messages, Message(role="user", content=given)]
    for index, item in enumerate(given):
        message = _message(item, f"input[{index}]")
        before = messages[-1] if messages else None
        if item.type == "function_call" and before is not None and before.role == "assistant":
            calls = [*(before.tool_calls or ()), *(message.tool_calls or ())]
            messages[-1] = Message(role="assistant", content=before.content, tool_calls=calls)
        else:
            messages.append(message)
    return messages


def _message(item: InputItem, where: str) -> Message:
    match item.type:
        case "message" if item.role is not None and item.content is not None:
            return Message(role=item.role, content=_content(item.content, f"{where}.content"))
        case "function_call" if item.call_id is not None and item.name is not None:
            call = ToolCall(id=item.call_id, function=FunctionCall(name=item.name, arguments=item.arguments or "{}"))
            return Message(role="assistant", tool_calls=[call])
        case "function_call_output" if item.call_id is not None and item.output is not None:
            return Message(role="tool", tool_call_id=item.call_id, content=_content(item.output, f"{where}.output"))
        case "message" | "function_call" | "function_call_output":
            raise Invalid(f"a {item.type} lacks fields", param=where, code="invalid_value")
        case other:
            complaint = f"input items are messages, function calls and their outputs, not {other!r}"
            raise Invalid(complaint, param=f"{where}.type", code="invalid_value")


def _content(content: str | list[InputPart], where: str) -> str | list[TextPart]:
    if isinstance(content, str):
        return content
    return [_part(part, f"{where}[{number}]") for number, part in enumerate(content)]


def _part(part: InputPart, where: str) -> TextPart:
    if part.type in TEXTS and part.text is not None:
        return TextPart(type="text", text=part.text)
    if part.type == "refusal" and part.refusal is not None:
        return TextPart(type="text", text=part.refusal)
    raise Invalid(f"only text is supported, not {part.type!r}", param=where, code="invalid_value")
