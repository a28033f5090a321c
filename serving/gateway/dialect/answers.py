"""The document that a chat and a plain completion share: whole or in chunks. Knows no HTTP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import msgspec
from msgspec import UNSET, UnsetType

from serving.gateway.calls import Call
from serving.gateway.generation import Row
from serving.gateway.wire.answer import Answer
from serving.gateway.wire.chat import ChatChoice, ChunkChoice
from serving.gateway.wire.completion import TextChoice
from serving.gateway.wire.generation import CachedTokens, FinishReason, Usage
from serving.request import Event, Token

Spell = Callable[[int], str]
"""A token id as text."""
Kind = Literal["chat.completion", "chat.completion.chunk", "text_completion"]
Choices = Sequence[ChatChoice] | Sequence[ChunkChoice | TextChoice]


encode = msgspec.json.Encoder().encode


class Answers(Protocol):
    """Writes rows as choices.

    Of a row that is streamed they are asked for in order, each for a chunk of its own: `opening`, `delta` for every
    token, `closing`.
    """

    whole: Kind
    chunk: Kind

    def choices(self, rows: Sequence[Row]) -> list[ChatChoice] | list[TextChoice]: ...
    def opening(self, index: int, first: Event) -> list[ChunkChoice] | list[TextChoice]: ...
    def delta(self, index: int, token: Token) -> list[ChunkChoice] | list[TextChoice]: ...
    def closing(self, index: int, row: Row) -> list[ChunkChoice] | list[TextChoice]: ...


def finish_reason(row: Row) -> FinishReason:
    assert row.finished is not None
    return "length" if row.finished.reason == "length" else "stop"


def usage_of(call: Call) -> Usage:
    usage = call.usage()
    return Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        prompt_tokens_details=CachedTokens(cached_tokens=usage.cached_tokens),
    )


def whole(call: Call, answers: Answers) -> Answer:
    """All rows have ended."""
    return _document(call, answers.whole, answers.choices(call.generation.rows), usage_of(call))


def around_choice(call: Call, answers: Answers, *, include_usage: bool) -> tuple[bytes, bytes]:
    """The JSON of a chunk before and after its one choice: the same for all chunks of a call."""
    empty = encode(_document(call, answers.chunk, (), None if include_usage else UNSET))
    before, choices, after = empty.partition(b'"choices":[')  # within a text its quotes would be escaped
    return before + choices, after


def last_chunk(call: Call, answers: Answers) -> Answer:
    """What was used, after all choices."""
    return _document(call, answers.chunk, (), usage_of(call))


def _document(call: Call, kind: Kind, choices: Choices, usage: Usage | UnsetType | None) -> Answer:
    return Answer(
        id=call.id,
        object=kind,
        created=call.created,
        model=call.choice.requested,
        system_fingerprint=call.choice.fingerprint,
        choices=choices,
        usage=usage,
    )
