"""What a request will take, before any of its text is tokenised: rows, and about how many tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

CHARACTERS_PER_TOKEN = 4
ANSWER_TOKENS = 256
"""What an answer is taken to use where no `max_tokens` bounds it."""


@dataclass(frozen=True)
class Demand:
    """`tokens` counts what is read and what is written."""

    rows: int
    tokens: int

    @classmethod
    def of(cls, lengths: Sequence[int], n: int = 1, max_tokens: int | None = None) -> Demand:
        """`n` answers of up to `max_tokens` to each of several prompts, whose lengths are given in tokens."""
        rows = n * len(lengths)
        return cls(rows, sum(lengths) + rows * (ANSWER_TOKENS if max_tokens is None else max_tokens))


def lengths_of(prompt: str | list[Any]) -> list[int]:
    """About how many tokens each prompt has: a string, token ids, or a list of either. What is neither has none."""
    if isinstance(prompt, str):
        return [about(prompt)]
    if all(isinstance(each, int) for each in prompt):
        return [len(prompt)]
    return [about(each) if isinstance(each, str | list) else 0 for each in prompt]


def about(prompt: str | list[Any]) -> int:
    """Tokens of a text, or of token ids."""
    return -(-len(prompt) // CHARACTERS_PER_TOKEN) if isinstance(prompt, str) else len(prompt)
