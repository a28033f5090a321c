"""An answer as OpenAI's chat completion, whole or in chunks. Runs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from serving.gateway.dialect.answers import Kind, Spell, finish_reason
from serving.gateway.generation import Row
from serving.gateway.wire.chat import (
    AnswerMessage,
    ChatChoice,
    ChatLogprobs,
    ChunkChoice,
    Delta,
    TokenLogprob,
    TopLogprob,
)
from serving.request import Event, Token


@dataclass
class ChatAnswers:
    spell: Spell
    whole: Kind = "chat.completion"
    chunk: Kind = "chat.completion.chunk"

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

    def opening(self, index: int, first: Event) -> list[ChunkChoice]:
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
