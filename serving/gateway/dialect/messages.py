"""A conversation as the chat template takes it. Applies no template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from registry.errors import Invalid
from serving.gateway.wire.chat import Message


def template_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Text only, `developer` being a `system` of another name."""
    return [
        {"role": "system" if message.role == "developer" else message.role, "content": _text(message, index)}
        for index, message in enumerate(messages)
    ]


def _text(message: Message, index: int) -> str:
    if isinstance(message.content, str):
        return message.content
    texts = []
    for number, part in enumerate(message.content):
        if part.type != "text" or part.text is None:
            where = f"messages[{index}].content[{number}]"
            raise Invalid(f"only text parts are supported, not {part.type!r}", param=where, code="invalid_value")
        texts.append(part.text)
    return "".join(texts)


def texts_of(message: Message) -> list[str]:
    """All that a message says, unchecked."""
    if isinstance(message.content, str):
        return [message.content]
    return [part.text or "" for part in message.content]
