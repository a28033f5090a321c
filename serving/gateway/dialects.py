"""The two documents an answer can be written in: chat and plain text, whole or in chunks. Runs nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from serving.gateway.generation import Row
from serving.gateway.schemas import (
    AnswerMessage,
    ChatChoice,
    ChatLogprobs,
    ChunkChoice,
    Delta,
    FinishReason,
    TextChoice,
    TextLogprobs,
    TokenLogprob,
    TopLogprob,
    Usage,
)
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
    def opening(self, index: int) -> list[ChunkChoice] | None: ...
    def delta(self, index: int, token: Token) -> list[ChunkChoice] | list[TextChoice] | None: ...
    def closing(self, index: int, row: Row) -> list[ChunkChoice] | list[TextChoice]: ...


@dataclass
class ChatDialect:
    spell: Spell
    whole: Kind = "chat.completion"
    chunk: Kind = "chat.completion.chunk"
    id_prefix: str = "chatcmpl"

    def choices(self, rows: Sequence[Row]) -> list[ChatChoice]:
        return [
            ChatChoice(
                index=index,
                message=AnswerMessage(content=row.text),
                logprobs=self._logprobs(row.tokens) if row.request.sampling.logprobs is not None else None,
                finish_reason=finish_reason(row),
            )
            for index, row in enumerate(rows)
        ]

    def opening(self, index: int) -> list[ChunkChoice]:
        return [ChunkChoice(index=index, delta=Delta(role="assistant", content=""))]

    def delta(self, index: int, token: Token) -> list[ChunkChoice] | None:
        if not token.text and token.logprob is None:
            return None
        logprobs = None if token.logprob is None else self._logprobs([token])
        return [ChunkChoice(index=index, delta=Delta(content=token.text), logprobs=logprobs)]

    def closing(self, index: int, row: Row) -> list[ChunkChoice]:
        return [ChunkChoice(index=index, delta=Delta(), finish_reason=finish_reason(row))]

    def _logprobs(self, tokens: Sequence[Token]) -> ChatLogprobs:
        return ChatLogprobs(
            content=[
                TokenLogprob(
                    token=self.spell(token.id),
                    logprob=token.logprob if token.logprob is not None else 0.0,
                    bytes=list(self.spell(token.id).encode()),
                    top_logprobs=[self._top(id, logprob) for id, logprob in token.top],
                )
                for token in tokens
            ]
        )

    def _top(self, id: int, logprob: float) -> TopLogprob:
        text = self.spell(id)
        return TopLogprob(token=text, logprob=logprob, bytes=list(text.encode()))


@dataclass
class TextDialect:
    spell: Spell
    whole: Kind = "text_completion"
    chunk: Kind = "text_completion"
    id_prefix: str = "cmpl"
    _offsets: dict[int, int] = field(default_factory=dict)
    """Characters already sent of each row; `text_offset` counts from the answer's beginning."""

    def choices(self, rows: Sequence[Row]) -> list[TextChoice]:
        return [
            TextChoice(
                index=index,
                text=row.text,
                logprobs=self._logprobs(row.tokens, 0) if row.request.sampling.logprobs is not None else None,
                finish_reason=finish_reason(row),
            )
            for index, row in enumerate(rows)
        ]

    def opening(self, index: int) -> None:
        return None

    def delta(self, index: int, token: Token) -> list[TextChoice] | None:
        if not token.text and token.logprob is None:
            return None
        offset = self._offsets.get(index, 0)
        self._offsets[index] = offset + len(token.text)
        logprobs = None if token.logprob is None else self._logprobs([token], offset)
        return [TextChoice(index=index, text=token.text, logprobs=logprobs)]

    def closing(self, index: int, row: Row) -> list[TextChoice]:
        return [TextChoice(index=index, text="", finish_reason=finish_reason(row))]

    def _logprobs(self, tokens: Sequence[Token], offset: int) -> TextLogprobs:
        offsets = []
        for token in tokens:
            offsets.append(offset)
            offset += len(token.text)
        return TextLogprobs(
            tokens=[self.spell(token.id) for token in tokens],
            token_logprobs=[token.logprob if token.logprob is not None else 0.0 for token in tokens],
            top_logprobs=[{self.spell(id): logprob for id, logprob in token.top} for token in tokens],
            text_offset=offsets,
        )
