"""A classification task that a tiny random Llama can learn in seconds: what kind of letters is a text made of?"""

from __future__ import annotations

import random

LETTERS = {"vowels": "aeiou", "stops": "ptkbdg", "digits": "0123456789"}


def letters(kind: str, seed: int) -> str:
    """A text made of one kind of letter."""
    rng = random.Random(f"{kind}/{seed}")
    return "".join(rng.choice(LETTERS[kind]) for _ in range(rng.randint(8, 14)))


def letter_rows(kinds: tuple[str, ...], count: int, *, start: int = 0) -> list[dict[str, str]]:
    return [{"text": letters(kind, start + i), "label": kind[0]} for i in range(count) for kind in kinds]
