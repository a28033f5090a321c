"""Log-probabilities as chats tell them: each token's text, its bytes, and what else was likely."""

from __future__ import annotations

from collections.abc import Sequence

from serving.gateway.dialect.answers import Spell
from serving.gateway.wire.chat import TokenLogprob, TopLogprob
from serving.request import Token


def token_logprobs(spell: Spell, tokens: Sequence[Token]) -> list[TokenLogprob]:
    return [
        TokenLogprob(
            token=spell(token.id),
            logprob=token.logprob if token.logprob is not None else 0.0,
            bytes=list(spell(token.id).encode()),
            top_logprobs=[_top(spell(id), logprob) for id, logprob in token.top],
        )
        for token in tokens
    ]


def _top(text: str, logprob: float) -> TopLogprob:
    return TopLogprob(token=text, logprob=logprob, bytes=list(text.encode()))
