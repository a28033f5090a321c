"""The places of a gateway's queue: so many rows may be open at once, from admission to their end. For one thread.

No tenant can fill them all: it is let in while it holds fewer than GREED times as many places as are free, so that one
that comes new always finds some, and several that flood the gateway end up with equal shares. Who is turned away hears
when a place will be free, from the rate at which rows end while others wait; several who are turned away hear of one
place each.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from registry.errors import Busy, Invalid

GREED = 8
"""A tenant alone may hold 8 of 9 places; two that want all get 8 of 17 each."""
REMEMBERED = 256
"""Rows that the rate is measured over."""
ENOUGH = 8
"""Rows without which there is no rate."""
UNKNOWN_S = 1.0
"""The wait that is told before anything was measured."""
LONGEST_S = 60.0
"""Nobody is sent away for longer."""


@dataclass(eq=False)
class Places:
    """`seats` rows run at once, the rest of `total` wait. `clock` is monotonic."""

    total: int
    seats: int
    clock: Callable[[], float] = time.monotonic
    held: Counter[str] = field(default_factory=Counter)
    """Places by tenant."""
    _ends: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    """When rows ended, after the instant when rows began to wait; empty while none waits."""
    _rate_before: float | None = None
    _promised_until: float = -math.inf

    @property
    def open(self) -> int:
        return self.held.total()

    @property
    def waiting(self) -> int:
        return max(self.open - self.seats, 0)

    def take(self, tenant: str, rows: int, left_s: float = math.inf) -> None:
        """Busy where there is no room, or where the turn of the rows comes in more than `left_s` seconds."""
        if rows > self.total:
            raise Invalid(f"{rows} answers at once were asked for; at most {self.total} can be given", param="n")
        free, mine = self.total - self.open, self.held[tenant]
        if rows > free:
            raise self._busy(rows, "the queue is full")
        if mine and mine + rows - 1 >= GREED * (free - rows + 1):
            raise self._busy(rows, f"the tenant {tenant!r} has its share of the queue")
        wait_s = self._wait_s(tenant, rows)
        if wait_s > left_s:
            message = f"the queue is {wait_s:.1f} s long, and the request must be answered within {left_s:.1f} s"
            raise Busy(message, retry_after_s=min(wait_s - left_s, LONGEST_S))
        self.held[tenant] += rows
        if self.waiting and not self._ends:
            self._ends.append(self.clock())

    def give_back(self, tenant: str, rows: int, *, ran: bool) -> None:
        """`ran`: the engine had the rows, so that their end tells how fast rows end."""
        if ran and self._ends:
            self._ends.extend([self.clock()] * rows)
        self.held[tenant] -= rows
        if not self.held[tenant]:
            del self.held[tenant]
        if not self.waiting and self._ends:
            self._rate_before = self.rate()
            self._ends.clear()

    def rate(self) -> float | None:
        """Rows that ended in a second while others waited, lately; None where that was never seen."""
        if len(self._ends) <= ENOUGH:
            return self._rate_before
        return (len(self._ends) - 1) / max(self.clock() - self._ends[0], 1e-3)

    def _wait_s(self, tenant: str, rows: int) -> float:
        """Until the last of the rows has a seat, where tenants take turns."""
        rate, tenants = self.rate(), len(self.held.keys() | {tenant})
        before = min(self.open + rows, (self.held[tenant] + rows) * tenants) - self.seats
        return max(before, 0) / rate if rate else 0.0

    def _busy(self, rows: int, why: str) -> Busy:
        """Each refusal promises the next place to come free, up to the last of those now taken."""
        now, rate, wait_s = self.clock(), self.rate(), UNKNOWN_S
        if rate:
            promised = max(self._promised_until, now) + rows / rate
            self._promised_until = min(promised, now + max(self.open, rows) / rate, now + LONGEST_S)
            wait_s = self._promised_until - now
        return Busy(f"{why}: {self.open} of {self.total} places are taken", retry_after_s=wait_s)
