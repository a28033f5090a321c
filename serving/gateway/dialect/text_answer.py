"""An answer as OpenAI's text completion, whole or in chunks, with the prompt before it on request. Runs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from serving.gateway.dialect.answers import Kind, Spell, finish_reason
from serving.gateway.dialect.prompts import Prompt
from serving.gateway.dialect.text_question import TextQuestion
from serving.gateway.generation import Row
from serving.gateway.wire.completion import TextChoice, TextLogprobs
from serving.request import Alternatives, Event, Scores, Token


@dataclass
class TextAnswers:
    spell: Spell
    question: TextQuestion
    prompts: Sequence[Prompt]
    whole: Kind = "text_completion"
    chunk: Kind = "text_completion"
    _offsets: dict[int, int] = field(default_factory=dict)
    """Characters already sent of each row; `text_offset` counts from the text's beginning."""

    def choices(self, rows: Sequence[Row]) -> list[TextChoice]:
        return [self._choice(index, row, rows[self._first(index)]) for index, row in enumerate(rows)]

    def opening(self, index: int, first: Event) -> list[TextChoice]:
        if not self.question.echoes:
            return []
        echo = self._echo(index)
        self._offsets[index] = len(echo.text)
        logprobs = self._prompt_logprobs(echo, _scores(first)) if self.question.scores(index) else None
        return [TextChoice(index=index, text=echo.text, logprobs=logprobs)]

    def delta(self, index: int, token: Token) -> list[TextChoice]:
        if not token.text and token.logprob is None:
            return []
        offset = self._offsets.get(index, 0)
        self._offsets[index] = offset + len(token.text)
        logprobs = None if token.logprob is None else self._answer_logprobs([token], offset)
        return [TextChoice(index=index, text=token.text, logprobs=logprobs)]

    def closing(self, index: int, row: Row) -> list[TextChoice]:
        return [TextChoice(index=index, text="", finish_reason=finish_reason(row))]

    def _choice(self, index: int, row: Row, scored: Row) -> TextChoice:
        echo = self._echo(index) if self.question.echoes else Prompt(())
        logprobs = None
        if row.request.sampling.logprobs is not None:
            logprobs = self._answer_logprobs(row.tokens, len(echo.text))
            if self.question.echoes:
                assert scored.finished is not None
                logprobs = _joined(self._prompt_logprobs(echo, _scores(scored.finished)), logprobs)
        return TextChoice(index=index, text=echo.text + row.text, logprobs=logprobs, finish_reason=finish_reason(row))

    def _first(self, index: int) -> int:
        """The row that scored this row's prompt."""
        return index - index % self.question.per_prompt

    def _echo(self, index: int) -> Prompt:
        return self.prompts[index // self.question.per_prompt]

    def _answer_logprobs(self, tokens: Sequence[Token], offset: int) -> TextLogprobs:
        offsets = []
        for token in tokens:
            offsets.append(offset)
            offset += len(token.text)
        return TextLogprobs(
            tokens=[self.spell(token.id) for token in tokens],
            token_logprobs=[token.logprob if token.logprob is not None else 0.0 for token in tokens],
            top_logprobs=[self._spelled(token.top) for token in tokens],
            text_offset=offsets,
        )

    def _prompt_logprobs(self, prompt: Prompt, scores: Scores) -> TextLogprobs:
        """The first token was predicted from nothing."""
        return TextLogprobs(
            tokens=[self.spell(token) for token in prompt.ids],
            token_logprobs=[None, *(logprob for logprob, _ in scores)],
            top_logprobs=[None, *(self._spelled(top) for _, top in scores)],
            text_offset=list(prompt.offsets),
        )

    def _spelled(self, top: Alternatives) -> dict[str, float]:
        return {self.spell(id): logprob for id, logprob in top}


def _scores(event: Event) -> Scores:
    """What an answer's first or last event tells of its prompt."""
    if isinstance(event, Token):
        return event.prompt_scores or ()
    return tuple(zip(event.prompt_logprobs or (), event.prompt_top or (), strict=True))


def _joined(one: TextLogprobs, other: TextLogprobs) -> TextLogprobs:
    return TextLogprobs(
        tokens=one.tokens + other.tokens,
        token_logprobs=one.token_logprobs + other.token_logprobs,
        top_logprobs=one.top_logprobs + other.top_logprobs,
        text_offset=one.text_offset + other.text_offset,
    )
