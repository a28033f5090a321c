"""A conversation as the chat template takes it. Applies no template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from registry.errors import Invalid
from serving.gateway.wire.chat import Message, TextPart
from serving.gateway.wire.tool import ToolCall


def template_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Text only, `developer` being a `system` of another name; the arguments of calls as values, not as JSON."""
    return [_template(message, f"messages[{index}]") for index, message in enumerate(messages)]


def texts_of(message: Message) -> list[str]:
    """All that a message says, unchecked, as far as a template may write it out."""
    calls = [
        text for call in message.tool_calls or () for text in (call.id, call.function.name, call.function.arguments)
    ]
    said = [message.refusal or "", message.tool_call_id or "", *calls]
    if not isinstance(message.content, list):
        return [message.content or "", *said]
    return [*(part.text or part.refusal or "" for part in message.content), *said]


def uses_tools(message: Message) -> bool:
    return message.role == "tool" or bool(message.tool_calls)


def _template(message: Message, where: str) -> dict[str, Any]:
    _check_role(message, where)
    told: dict[str, Any] = {"role": "system" if message.role == "developer" else message.role}
    told["content"] = _text(message, where)
    if message.name is not None:
        told["name"] = message.name
    if message.tool_call_id is not None:
        told["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        told["tool_calls"] = [
            _call(call, f"{where}.tool_calls[{number}]") for number, call in enumerate(message.tool_calls)
        ]
    return told


def _check_role(message: Message, where: str) -> None:
    if message.content is None and message.refusal is None and not message.tool_calls:
        raise Invalid("a message needs content", param=f"{where}.content", code="invalid_value")
    if message.tool_calls and message.role != "assistant":
        raise Invalid("only assistants call tools", param=f"{where}.tool_calls", code="invalid_value")
    if message.role == "tool" and message.tool_call_id is None:
        complaint = "a tool's message says which call it answers"
        raise Invalid(complaint, param=f"{where}.tool_call_id", code="invalid_value")


def _text(message: Message, where: str) -> str:
    if isinstance(message.content, list):
        return "".join(
            _part(part, message, f"{where}.content[{number}]") for number, part in enumerate(message.content)
        )
    return message.content or message.refusal or ""


def _part(part: TextPart, message: Message, where: str) -> str:
    if part.type == "text" and part.text is not None:
        return part.text
    if part.type == "refusal" and part.refusal is not None and message.role == "assistant":
        return part.refusal
    raise Invalid(f"only text parts are supported, not {part.type!r}", param=where, code="invalid_value")


def _call(call: ToolCall, where: str) -> dict[str, Any]:
    try:
        arguments = msgspec.json.decode(call.function.arguments or "{}")
    except (msgspec.DecodeError, RecursionError) as error:
        param = f"{where}.function.arguments"
        raise Invalid("a call's arguments are JSON", param=param, code="invalid_value") from error
    return {"id": call.id, "type": "function", "function": {"name": call.function.name, "arguments": arguments}}
