"""The document that a chat and a completion are both written in, whole or a chunk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from serving.gateway.wire.chat import ChatChoice, ChunkChoice
from serving.gateway.wire.completion import TextChoice
from serving.gateway.wire.generation import Usage


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One response document, whole or a chunk: `object` says which, `choices` differ by endpoint."""

    id: str
    object: Literal["chat.completion", "chat.completion.chunk", "text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: Sequence[ChatChoice | ChunkChoice | TextChoice]
    usage: Usage | UnsetType | None = UNSET


class ChatCompletion(Answer, frozen=True, kw_only=True):
    """A whole answer to a conversation."""

    object: Literal["chat.completion"]
    choices: list[ChatChoice]


class ChatChunk(Answer, frozen=True, kw_only=True):
    """A piece of an answer to a conversation."""

    object: Literal["chat.completion.chunk"]
    choices: list[ChunkChoice]


class TextCompletion(Answer, frozen=True, kw_only=True):
    """A continuation of a text, or with `stream` a piece of one."""

    object: Literal["text_completion"]
    choices: list[TextChoice]
