"""Which adapters have series of their own in the metrics: those asked for most of late. Knows no metric.

There may be a hundred thousand adapters, and a series for each would drown whoever scrapes. So `limit` of them are
named, the rest share `other`. One that is asked for more than twice as often as the least asked of the named takes its
place; counts are halved as time goes by, so yesterday's favourites make room. For one thread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

OTHER = "other"
MIN_LEAD = 8
"""Two adapters that are seldom asked for do not push each other out at every request."""
HALVE_AFTER = 50
"""Requests per named adapter, on average, after which all counts are halved and the least are forgotten."""


class Seat(NamedTuple):
    """Whose series: as labels name them."""

    tenant: str
    adapter: str


class Popular:
    def __init__(self, limit: int, on_leave: Callable[[Seat], None], always: tuple[str, ...]) -> None:
        """`on_leave` is told whose series are to go; adapters called as in `always` have theirs beyond the limit."""
        self._limit = limit
        self._on_leave = on_leave
        self._always = always
        self._counts: Counter[Seat] = Counter()
        self._named: set[Seat] = set()
        self._asked = 0

    def of(self, tenant: str, adapter: str) -> Seat:
        """The labels under which a request for this adapter is counted."""
        seat = Seat(tenant, adapter)
        if adapter in self._always:
            return seat
        self._counts[seat] += 1
        self._asked += 1
        if self._asked >= HALVE_AFTER * self._limit:
            self._halve()
        if seat in self._named or self._admit(seat):
            return seat
        return Seat(tenant, OTHER)

    def _admit(self, seat: Seat) -> bool:
        if len(self._named) >= self._limit:
            least = min(self._named, key=self._counts.__getitem__)
            if self._counts[seat] <= 2 * self._counts[least] + MIN_LEAD:
                return False
            self._named.remove(least)
            self._on_leave(least)
        self._named.add(seat)
        return True

    def _halve(self) -> None:
        self._asked = 0
        self._counts = Counter({seat: count // 2 for seat, count in self._counts.items() if count > 1})
