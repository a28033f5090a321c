"""Computed prefixes that outlive their rows, until somebody needs the room. Knows no torch and no queue.

    owner (tenant, adapter digest)  +  tokens 0 .. num_computed  ->  the region that holds their keys and values

What is kept never stands in the way: an allocation that finds no free region takes back those kept ones that were
used least recently, and only those it needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Protocol

from serving.regions import Region, Regions, capacity_for
from serving.row import MARK, Owner, Row

BLOCK = 32
"""Prefixes are indexed every so many tokens; fewer are not worth reusing."""
COMPARED = 4
"""Kept prefixes with the same beginning that are compared token by token; the newest."""


class Donor(Protocol):
    """Who has computed a prefix: a running row, or a prefix that was kept."""

    @property
    def tokens(self) -> Sequence[int]: ...
    @property
    def num_computed(self) -> int: ...
    @property
    def region(self) -> Region | None: ...
    @property
    def marks(self) -> Sequence[object]: ...


@dataclass(eq=False)
class Prefix:
    """The computed tokens of a row that is gone."""

    owner: Owner
    tokens: Sequence[int]
    region: Region
    marks: Sequence[object]
    keys: Sequence[int]
    """Where it is found: one key for each whole block."""
    used_at: int = 0

    @property
    def num_computed(self) -> int:
        return len(self.tokens)


class PrefixCache:
    """Owns the cached regions: `limit` positions at most."""

    def __init__(self, regions: Regions, limit: int) -> None:
        self._regions = regions
        self._limit = limit
        self._found: dict[int, dict[Prefix, None]] = {}
        self._kept: dict[Prefix, None] = {}
        self._clock = count(1)

    def __len__(self) -> int:
        return len(self._kept)

    def retain(self, row: Row) -> None:
        """Take over the region of a row that gives it up: keep what is computed in it, or set it free."""
        assert row.region is not None
        if row.num_computed < BLOCK or row.region.capacity > self._limit:
            self._regions.release(row.region)
            return
        while self._regions.cached + row.region.capacity > self._limit:
            self._regions.release(self.adopt(min(self._kept, key=lambda prefix: prefix.used_at)))
        tokens = row.tokens[: row.num_computed]
        keys = list(_keys(row.owner, tokens))
        marks = row.marks[: row.num_computed // MARK]
        prefix = Prefix(row.owner, tokens, row.region, marks, keys, next(self._clock))
        self._regions.retain(row.region)
        self._kept[prefix] = None
        for key in keys:
            self._found.setdefault(key, {})[prefix] = None

    def best(self, row: Row) -> tuple[Prefix | None, int]:
        """The kept prefix of the same owner that shares most with a row's tokens, and how much."""
        candidates: dict[Prefix, None] = {}
        for key in _keys(row.owner, row.tokens):
            if key not in self._found:
                break
            candidates = self._found[key]
        found, longest = None, 0
        for prefix in islice(reversed(candidates), COMPARED):
            length = common(row.tokens, prefix.tokens) if prefix.owner == row.owner else 0
            if length > longest:
                found, longest = prefix, length
        if found is not None:
            found.used_at = next(self._clock)
        return found, longest

    def adopt(self, prefix: Prefix) -> Region:
        """The prefix's region becomes a row's own."""
        self._drop(prefix)
        self._regions.revive(prefix.region)
        return prefix.region

    def allocate(self, length: int, spare: Prefix | None = None) -> Region | None:
        """A region for `length` positions; where none is free at the expense of kept prefixes, but not of `spare`."""
        region = self._regions.allocate(length)
        if region is None and (victims := self._cheapest(capacity_for(length), spare)):
            for prefix in victims:
                self._regions.release(self.adopt(prefix))
            region = self._regions.allocate(length)
        return region

    def has_room(self, length: int) -> bool:
        """Whether `allocate` would find a region."""
        wanted = capacity_for(length)
        return any(region.capacity >= wanted for region in self._regions.free()) or bool(self._cheapest(wanted, None))

    def clear(self) -> None:
        """Set everything free."""
        for prefix in list(self._kept):
            self._regions.release(self.adopt(prefix))

    def check_integrity(self) -> None:
        assert self._regions.cached == sum(prefix.region.capacity for prefix in self._kept)
        assert all(prefix.num_computed <= prefix.region.capacity for prefix in self._kept)
        assert {prefix for found in self._found.values() for prefix in found} == set(self._kept)
        assert all(prefix in self._found[key] for prefix in self._kept for key in prefix.keys)

    def _drop(self, prefix: Prefix) -> None:
        del self._kept[prefix]
        for key in prefix.keys:
            del self._found[key][prefix]
            if not self._found[key]:
                del self._found[key]

    def _cheapest(self, wanted: int, spare: Prefix | None) -> list[Prefix]:
        """The kept prefixes that must go to make an aligned free region of this size: those longest unused.

        Every aligned stretch of `wanted` positions that is covered by free and kept regions alone would do.
        """
        single = [prefix for prefix in self._kept if prefix.region.capacity >= wanted and prefix is not spare]
        covered: dict[int, int] = {}
        inside: dict[int, list[Prefix]] = {}
        for region in self._regions.free():
            covered[region.start // wanted] = covered.get(region.start // wanted, 0) + region.capacity
        for prefix in self._kept:
            place = prefix.region.start // wanted
            if prefix.region.capacity < wanted and prefix is not spare:
                covered[place] = covered.get(place, 0) + prefix.region.capacity
                inside.setdefault(place, []).append(prefix)
        stretches = [prefixes for place, prefixes in inside.items() if covered[place] == wanted]
        choices = [*([prefix] for prefix in single), *stretches]
        return min(choices, key=lambda prefixes: max(prefix.used_at for prefix in prefixes), default=[])


def common(ours: Sequence[int], theirs: Sequence[int]) -> int:
    """Length of the longest common beginning."""
    limit = min(len(ours), len(theirs))
    for place in range(0, limit, BLOCK):
        stop = min(place + BLOCK, limit)
        if ours[place:stop] != theirs[place:stop]:
            return next(at for at in range(place, stop) if ours[at] != theirs[at])
    return limit


def _keys(owner: Owner, tokens: Sequence[int]) -> Iterator[int]:
    """One key for each whole block, from all tokens up to its end. Equal keys are a hint: tokens are compared."""
    key = hash(owner)
    for stop in range(BLOCK, len(tokens) + 1, BLOCK):
        key = hash((key, tuple(tokens[stop - BLOCK : stop])))
        yield key
