"""One sequence on its way through the scheduler. Knows no torch and no text.

A row's tokens, from prompt to the last one sampled:

    [ computed, in the KV cache | pending ]      pending == 1: decode; more: prefill, in chunks; 0: never between steps
      0 .. num_computed           .. len(tokens)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from serving.regions import Region

MARK = 64
"""Every so many positions of a prompt a row may leave a mark: what must be known to go on from there."""


class Owner(NamedTuple):
    """Whose a row is: what is shared and what is computed never crosses either of the two."""

    tenant: str = ""
    digest: str = ""
    """The adapter's; empty for the bare base."""


NOBODY = Owner()


@dataclass(eq=False)
class Row:
    tokens: list[int]
    max_length: int
    """Prompt plus longest answer, in tokens."""
    owner: Owner = NOBODY
    num_computed: int = 0
    region: Region | None = None
    arrival: int = 0
    """Its number in the order of coming."""
    num_charged: int = 0
    """How many of its positions its owner has paid for."""
    marks: list[object] = field(default_factory=list)
    """What is known at positions MARK, 2 MARK, ...: the scheduler hands it on and does not look at it."""
    prompt_end: int = field(init=False)
    """Where the answer begins."""

    def __post_init__(self) -> None:
        self.prompt_end = len(self.tokens)

    @property
    def num_pending(self) -> int:
        return len(self.tokens) - self.num_computed

    @property
    def leaves_marks(self) -> bool:
        return False

    def reusable(self, length: int, num_marks: int) -> int:
        """How many of `length` positions that another row has computed spare this one the work.

        The last token is always computed: the next follows from its logits.
        """
        return min(length, len(self.tokens) - 1)

    def resume(self, length: int, marks: Sequence[object]) -> None:
        """The first `length` positions are in the row's region; go on from there."""
        self.num_computed = length
        self.num_charged = max(self.num_charged, length)
        self.marks = list(marks[: length // MARK])
