"""A classification task that a tiny random Llama can learn in seconds: what kind of letters is a text made of?"""

from __future__ import annotations

import random
from typing import Any

LETTERS = {"vowels": "ae", "stops": "pt", "digits": "01"}


def letters(kind: str, seed: int) -> str:
    """A text made of one kind of letter."""
    rng = random.Random(f"{kind}/{seed}")
    return "".join(rng.choice(LETTERS[kind]) for _ in range(rng.randint(8, 14)))


def letter_rows(kinds: tuple[str, ...], count: int, *, start: int = 0) -> list[dict[str, Any]]:
    """One text of each kind makes a group, so that there are `count` sessions."""
    return [
        {"text": letters(kind, start + i), "label": kind[0], "meta": {"group": f"group {start + i}"}}
        for i in range(count)
        for kind in kinds
    ]
