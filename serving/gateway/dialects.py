"""What the two documents share in which an answer can be written, chat and plain text: their protocol and usage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from serving.gateway.generation import Row
from serving.gateway.wire.chat import ChatChoice, ChunkChoice
from serving.gateway.wire.completion import TextChoice
from serving.gateway.wire.generation import FinishReason, Usage
from serving.request import Token

Spell = Callable[[int], str]
"""A token id as text."""
Kind = Literal["chat.completion", "chat.completion.chunk", "text_completion"]


def finish_reason(row: Row) -> FinishReason:
    assert row.finished is not None
    return "length" if row.finished.reason == "length" else "stop"


def usage_of(rows: Sequence[Row], num_prompts: int) -> Usage:
    """What was read and written; a prompt answered several times counts once."""
    ended = [row.finished for row in rows if row.finished is not None]
    answers_per_prompt = max(len(rows) // num_prompts, 1)
    prompt = sum(len(row.request.prompt) for row in rows[::answers_per_prompt])
    written = sum(each.usage.completion_tokens for each in ended)
    return Usage(prompt_tokens=prompt, completion_tokens=written, total_tokens=prompt + written)


class Dialect(Protocol):
    """Chunks of one row are asked for in order: `opening`, `delta` for each token, `closing`."""

    whole: Kind
    chunk: Kind
    id_prefix: str

    def choices(self, rows: Sequence[Row]) -> list[ChatChoice] | list[TextChoice]: ...
    def opening(self, index: int) -> list[ChunkChoice] | list[TextChoice] | None: ...
    def delta(self, index: int, token: Token) -> list[ChunkChoice] | list[TextChoice] | None: ...
    def closing(self, index: int, row: Row) -> list[ChunkChoice] | list[TextChoice]: ...
