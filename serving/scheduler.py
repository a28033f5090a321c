"""Which rows compute which of their tokens in the next step. Continuous batching; knows no torch and no clock.

    queue (fair order) --seat--> running (order of coming) --end--> prefix cache
                 ^----preempt----'

Decode goes first. What is left of the token budget goes to prefill: first to rows that have a seat, then to new ones.
A new row starts from the longest prefix that its owner has computed already, in a kept region or in a running row;
where a running row is about to compute a longer one, it waits for that.

A row loses its seat when another must grow and the KV cache is full, or when the tenant charged least has no seat at
all while another has several. The row that goes belongs to the tenant that was charged most and is its youngest; never
the eldest of all running rows, so that the eldest always ends (should it find no room to grow in an empty cache but
where it stands, it starts over there). What a row has computed is kept while there is room.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from serving.fairness import FairQueue
from serving.prefix import BLOCK, Donor, Prefix, PrefixCache, common
from serving.regions import Region, Regions
from serving.row import MARK, Row

HEADROOM = 128
"""Positions reserved for the answer at admission; longer answers grow into a larger region."""


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

    @property
    def num_prompt_tokens(self) -> int:
        return max(min(self.stop, self.row.prompt_end) - self.start, 0)


@dataclass(frozen=True)
class Move:
    """The first `length` positions of `source` must be copied to `target` before the step, one move after the other."""

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
    prefix_tokens: int = 0
    """Positions that may be kept for the prefixes computed in them; 0: nothing is reused at all."""
    running: list[Row] = field(default_factory=list)
    queue: FairQueue = field(default_factory=FairQueue)
    num_preemptions: int = 0
    num_prefix_hits: int = 0
    num_tokens_reused: int = 0
    cache: PrefixCache = field(init=False)

    def __post_init__(self) -> None:
        self.cache = PrefixCache(self.regions, self.prefix_tokens)

    @property
    def has_work(self) -> bool:
        return bool(self.running or self.queue)

    def add(self, row: Row) -> None:
        self.queue.add(row)

    def remove(self, row: Row, keep: bool = True) -> None:
        """Take a row out, in whatever state it is. `keep`: what it has computed is sound and may be reused."""
        if row.region is not None:
            self.running.remove(row)
            self._vacate(row, keep)
        elif row in self.queue:
            self.queue.remove(row)
        if not self.has_work:
            self.queue.forget()

    def schedule(self) -> Step:
        """Decide the next step. Allocates, grows and preempts; rows advance when the engine calls `advance`."""
        moves: list[Move] = []
        for row in [row for row in self.running if row.num_pending == 1]:
            self._make_room(row, moves)
        self._yield_a_seat()
        chunks = [self._chunk(row, 1) for row in self.running if row.num_pending == 1]
        chunks += self._prefills(self.prefill_tokens - len(chunks), moves)
        return Step(tuple(chunks), tuple(moves))

    def advance(self, chunk: Chunk) -> None:
        chunk.row.num_computed = chunk.stop

    def check_integrity(self) -> None:
        self.regions.check_integrity()
        self.cache.check_integrity()
        self.queue.check_integrity()
        assert len(self.running) <= self.max_batch
        assert self.regions.used == sum(row.region.capacity for row in self.running if row.region)
        assert all(row.region and row.region.capacity >= row.num_computed for row in self.running)

    def _chunk(self, row: Row, num_tokens: int) -> Chunk:
        chunk = Chunk(row, row.num_computed, row.num_computed + num_tokens)
        self.queue.charge(row, chunk.stop)
        return chunk

    def _prefills(self, budget: int, moves: list[Move]) -> list[Chunk]:
        chunks = []
        for seated in [row for row in self.running if row.num_pending > 1]:
            if budget > 0:
                chunks.append(self._chunk(seated, min(seated.num_pending, budget)))
                budget -= chunks[-1].num_tokens
        while budget > 0 and len(self.running) < self.max_batch and (row := self._next()) is not None:
            if not self._seat(row, moves):
                break
            chunks.append(self._chunk(row, min(row.num_pending, budget)))
            budget -= chunks[-1].num_tokens
        return chunks

    def _next(self) -> Row | None:
        """The next row to be seated: the first in fair order that need not wait for a mate's prefix."""
        return next((row for row in self.queue if not self._waits_for_a_mate(row)), None)

    def _waits_for_a_mate(self, row: Row) -> bool:
        """Whether a running row of the same owner will soon have computed a prefix that is worth waiting for."""
        mates = [mate for mate in self.running if mate.num_pending > 1 and mate.owner == row.owner]
        if not mates or not self.prefix_tokens:
            return False
        _, now = self._donor(row)
        soon = 0
        for mate in mates:
            length = common(row.tokens, mate.tokens)
            soon = max(soon, row.reusable(length, length // MARK if mate.leaves_marks else len(mate.marks)))
        return soon >= now + BLOCK

    def _donor(self, row: Row) -> tuple[Donor | None, int]:
        """Whose computed prefix spares the row most work, and how many tokens."""
        if not self.prefix_tokens:
            return None, 0
        donor: Donor | None
        donor, length = self.cache.best(row)
        longest = row.reusable(length, len(donor.marks)) if donor is not None else 0
        for mate in self.running:
            if mate.owner == row.owner and mate is not row:
                length = min(common(row.tokens, mate.tokens), mate.num_computed)
                length = row.reusable(length, len(mate.marks))
                if length > longest:
                    donor, longest = mate, length
        return (donor, longest) if longest >= BLOCK else (None, 0)

    def _seat(self, row: Row, moves: list[Move]) -> bool:
        """Give the row a region and what is known of its beginning; False when there is no room."""
        donor, length = self._donor(row)
        kept = donor if isinstance(donor, Prefix) else None
        comfortable = min(len(row.tokens) + HEADROOM, row.max_length)
        if kept and kept.num_computed < length + BLOCK and kept.region.capacity >= comfortable:
            region: Region | None = self.cache.adopt(kept)
        else:
            region = self.cache.allocate(comfortable, kept) or self.cache.allocate(len(row.tokens), kept)
        if region is None and kept and kept.region.capacity >= len(row.tokens):
            region = self.cache.adopt(kept)
        if region is None and kept:  # its own prefix is in the way
            donor, length, region = None, 0, self.cache.allocate(len(row.tokens))
        if region is None:
            return False
        self.queue.remove(row)
        self.running.append(row)
        row.region = region
        if donor is not None and donor.region is not None:
            if donor.region != region:
                moves.append(Move(donor.region, region, length))
            row.resume(length, donor.marks)
            self.num_prefix_hits += 1
            self.num_tokens_reused += length
        else:
            row.resume(0, ())
        return True

    def _make_room(self, row: Row, moves: list[Move]) -> None:
        """Grow the row's region if it is full, at the expense of others; or the row itself has to go."""
        while row.region is not None and len(row.tokens) > row.region.capacity:
            target = self.cache.allocate(len(row.tokens))
            if target is not None:
                moves.append(Move(row.region, target, row.num_computed))
                self.regions.release(row.region)
                row.region = target
            else:
                self._preempt(self._victim(self.running) or row)

    def _yield_a_seat(self) -> None:
        """If the next row's tenant has no seat, and there is none or no room, the tenant charged most gives one up."""
        if not self.queue:
            return
        seats = Counter(row.owner.tenant for row in self.running)
        if self.queue.tenants.waiting <= seats.keys() or max(seats.values(), default=0) < 2 or self._is_busy():
            return
        row = self._next()
        if row is None or row.owner.tenant in seats:
            return
        if len(self.running) < self.max_batch and self.cache.has_room(len(row.tokens)):
            return
        level = self.queue.tenants[row.owner.tenant]
        several = [other for other in self.running if seats[other.owner.tenant] > 1]
        victim = self._victim([other for other in several if self.queue.tenants[other.owner.tenant] > level])
        if victim is not None:
            self._preempt(victim)

    def _is_busy(self) -> bool:
        """Whether the rows that have a seat use up the budget: a new one could not start."""
        pending = sum(row.num_pending for row in self.running)
        return pending >= self.prefill_tokens

    def _victim(self, rows: list[Row]) -> Row | None:
        eldest = min(row.arrival for row in self.running)
        candidates = [row for row in rows if row.arrival > eldest]
        return max(candidates, key=lambda row: (self.queue.tenants[row.owner.tenant], row.arrival), default=None)

    def _preempt(self, row: Row) -> None:
        """Back to the queue; what is not kept of its tokens, answer included, is computed again later."""
        self.running.remove(row)
        self._vacate(row, keep=True)
        row.num_computed = 0
        self.queue.add(row)
        self.num_preemptions += 1

    def _vacate(self, row: Row, keep: bool) -> None:
        assert row.region is not None
        if keep:
            self.cache.retain(row)
        else:
            self.regions.release(row.region)
        row.region = None
