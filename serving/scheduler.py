"""Which rows compute which of their tokens in the next step. Continuous batching; knows no torch and no clock.

A row's tokens, from prompt to the last one sampled:

    [ computed, in the KV cache | pending ]      pending == 1: decode; more: prefill, in chunks; 0: never between steps
      0 .. num_computed           .. len(tokens)

Decode goes first. What is left of the token budget goes to prefill, oldest row first. When the KV cache is full the
youngest row gives up its region and starts over later, so that the oldest always ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from serving.regions import Region, Regions

HEADROOM = 128
"""Positions reserved for the answer at admission; longer answers grow into a larger region."""


@dataclass(eq=False)
class Row:
    """One sequence on its way through the engine."""

    tokens: list[int]
    max_length: int
    """Prompt plus longest answer, in tokens."""
    num_computed: int = 0
    region: Region | None = None

    @property
    def num_pending(self) -> int:
        return len(self.tokens) - self.num_computed


@dataclass(frozen=True)
class Chunk:
    """Tokens `start:stop` of a row. `samples`: the row's next token follows from them."""

    row: Row
    start: int
    stop: int

    @property
    def samples(self) -> bool:
        return self.stop == len(self.row.tokens)

    @property
    def num_tokens(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Move:
    """The first `length` positions of `source` must be copied to `target` before the step."""

    source: Region
    target: Region
    length: int


@dataclass(frozen=True)
class Step:
    chunks: tuple[Chunk, ...] = ()
    moves: tuple[Move, ...] = ()


@dataclass(eq=False)
class Scheduler:
    """Owns the order of rows and their regions."""

    regions: Regions
    max_batch: int
    prefill_tokens: int
    running: list[Row] = field(default_factory=list)
    """In order of admission: the oldest first."""
    waiting: deque[Row] = field(default_factory=deque)
    num_preemptions: int = 0

    def add(self, row: Row) -> None:
        self.waiting.append(row)

    def remove(self, row: Row) -> None:
        """Take a row out, in whatever state it is."""
        if row.region is not None:
            self.running.remove(row)
            self._vacate(row)
        elif row in self.waiting:
            self.waiting.remove(row)

    def schedule(self) -> Step:
        """Decide the next step. Allocates, grows and preempts; rows advance when the engine calls `advance`."""
        moves: list[Move] = []
        chunks = [*self._decodes(moves)]
        chunks += self._prefills(self.prefill_tokens - len(chunks))
        return Step(tuple(chunks), tuple(moves))

    def advance(self, chunk: Chunk) -> None:
        chunk.row.num_computed = chunk.stop

    def check_integrity(self) -> None:
        self.regions.check_integrity()
        assert len(self.running) <= self.max_batch
        assert self.regions.used == sum(row.region.capacity for row in self.running if row.region)
        assert all(row.region and row.region.capacity >= row.num_computed for row in self.running)
        assert all(row.region is None and row.num_computed == 0 for row in self.waiting)

    def _decodes(self, moves: list[Move]) -> Iterator[Chunk]:
        for row in [row for row in self.running if row.num_pending == 1]:
            if row.region is not None and self._has_room(row, moves):
                yield Chunk(row, row.num_computed, row.num_computed + 1)

    def _prefills(self, budget: int) -> Iterator[Chunk]:
        for row in [row for row in self.running if row.num_pending > 1]:
            if budget <= 0:
                return
            chunk = Chunk(row, row.num_computed, row.num_computed + min(row.num_pending, budget))
            budget -= chunk.num_tokens
            yield chunk
        while budget > 0 and self.waiting and len(self.running) < self.max_batch and self._admit(self.waiting[0]):
            row = self.waiting.popleft()
            chunk = Chunk(row, 0, min(len(row.tokens), budget))
            budget -= chunk.num_tokens
            yield chunk

    def _admit(self, row: Row) -> bool:
        comfortable = min(len(row.tokens) + HEADROOM, row.max_length)
        row.region = self.regions.allocate(comfortable) or self.regions.allocate(len(row.tokens))
        if row.region is not None:
            self.running.append(row)
        return row.region is not None

    def _has_room(self, row: Row, moves: list[Move]) -> bool:
        """Grow the row's region if it is full, at the expense of younger rows; False if the row itself had to go."""
        assert row.region is not None
        if len(row.tokens) <= row.region.capacity:
            return True
        while (target := self.regions.allocate(len(row.tokens))) is None:
            victim = self.running[-1]
            self._preempt(victim)
            if victim is row:
                return False
        moves.append(Move(row.region, target, row.num_computed))
        self.regions.release(row.region)
        row.region = target
        return True

    def _preempt(self, row: Row) -> None:
        """Back to the head of the queue; its tokens, answer included, are computed again later."""
        self.running.remove(row)
        self._vacate(row)
        row.num_computed = 0
        self.waiting.appendleft(row)
        self.num_preemptions += 1

    def _vacate(self, row: Row) -> None:
        assert row.region is not None
        self.regions.release(row.region)
        row.region = None
