"""Buddy allocation of the KV cache's positions: exact, aligned, power-of-two regions. Knows no tensor.

    positions   0        128       256                 512
                | 64 | 64 |   128   |        256        |      region: `capacity` positions from a multiple of it

A row owns one region. Rows of equal capacity sit in equal strides, so attention reads neighbours as one tensor. A
region is free, used by a row, or cached: kept for what was computed in it, until somebody needs the room.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

SMALLEST = 64


@dataclass(frozen=True, order=True)
class Region:
    start: int
    capacity: int


def capacity_for(length: int) -> int:
    """The smallest region that holds `length` positions."""
    return max(SMALLEST, 1 << (length - 1).bit_length())


class Regions:
    """The free, the used and the cached regions of `total` positions; lowest addresses are handed out first."""

    def __init__(self, total: int) -> None:
        self.total = total // SMALLEST * SMALLEST
        self.used = 0
        self.cached = 0
        self._free: dict[int, list[int]] = {}
        self._roots = self._decompose()
        self._used: set[Region] = set()
        self._cached: set[Region] = set()

    @property
    def largest(self) -> int:
        """The longest row that can ever be held."""
        return max((root.capacity for root in self._roots), default=0)

    def free(self) -> Iterator[Region]:
        return (Region(start, size) for size, starts in self._free.items() for start in starts)

    def allocate(self, length: int) -> Region | None:
        """A region for `length` positions, or None when there is none free."""
        wanted = capacity_for(length)
        size = min((size for size, starts in self._free.items() if size >= wanted and starts), default=None)
        if size is None:
            return None
        start = heapq.heappop(self._free[size])
        while size > wanted:
            size //= 2
            heapq.heappush(self._free.setdefault(size, []), start + size)
        region = Region(start, wanted)
        self._used.add(region)
        self.used += wanted
        return region

    def retain(self, region: Region) -> None:
        """A used region becomes a cached one."""
        self._used.remove(region)
        self._cached.add(region)
        self.used -= region.capacity
        self.cached += region.capacity

    def revive(self, region: Region) -> None:
        """A cached region becomes a used one."""
        self._cached.remove(region)
        self._used.add(region)
        self.cached -= region.capacity
        self.used += region.capacity

    def release(self, region: Region) -> None:
        """Give a used region back, joining it with its buddy as often as that is free."""
        self._used.remove(region)
        self.used -= region.capacity
        start, size = region.start, region.capacity
        while not self._is_root(start, size) and start ^ size in self._free.get(size, ()):
            self._free[size].remove(start ^ size)
            heapq.heapify(self._free[size])
            start, size = min(start, start ^ size), size * 2
        heapq.heappush(self._free.setdefault(size, []), start)

    def check_integrity(self) -> None:
        """Free, used and cached regions tile the whole space, without gap or overlap."""
        end = 0
        for region in sorted([*self.free(), *self._used, *self._cached]):
            assert region.start == end, f"gap or overlap at position {end}"
            assert region.start % region.capacity == 0, f"{region} is not aligned"
            end += region.capacity
        assert end == self.total
        assert self.used == sum(region.capacity for region in self._used)
        assert self.cached == sum(region.capacity for region in self._cached)

    def _decompose(self) -> frozenset[Region]:
        """Cover `total` with the fewest aligned powers of two: the roots of the buddy trees."""
        roots, start = set(), 0
        while start < self.total:
            size = 1 << ((self.total - start).bit_length() - 1)
            roots.add(Region(start, size))
            heapq.heappush(self._free.setdefault(size, []), start)
            start += size
        return frozenset(roots)

    def _is_root(self, start: int, size: int) -> bool:
        return Region(start, size) in self._roots
