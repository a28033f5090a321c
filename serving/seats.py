"""The ledger of adapters in memory: who has a seat, what it weighs, who may be evicted. Loads nothing, knows no thread.

budget  |  resident, leased or pinned  |  resident, idle: evictable  |  reserved by loads  |  free  |
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from serving.adapter import LoadedAdapter
from serving.eviction import GreedyDual
from serving.lease import Lease

Reserve = Callable[[int], None]
Make = Callable[[Reserve], LoadedAdapter]
"""Makes an adapter; calls its argument with the bytes it is about to take before it takes them."""


@dataclass(eq=False)
class Seat:
    """One adapter, here or on its way. `num_bytes` is reserved before the adapter is made, and exact afterwards."""

    digest: str
    make: Make
    adapter: LoadedAdapter | None = None
    num_bytes: int = 0
    leases: int = 0
    is_loading: bool = False
    waited_s: float = 0.0
    """For room in the budget."""
    load_s: float = 0.0
    """Without that wait."""
    waiting: list[Future[Lease]] = field(default_factory=list)


class Seats:
    """Not safe for threads: the owner holds its own lock."""

    def __init__(self, byte_budget: int) -> None:
        self.byte_budget = byte_budget
        self.num_bytes = self.peak_bytes = self.evictions = 0
        self.pinned: set[str] = set()
        self._seats: dict[str, Seat] = {}
        self._worth = GreedyDual()

    def get(self, digest: str) -> Seat | None:
        return self._seats.get(digest)

    def all(self) -> list[Seat]:
        return list(self._seats.values())

    def resident(self) -> list[Seat]:
        return [seat for seat in self._seats.values() if seat.adapter is not None]

    def add(self, seat: Seat) -> Seat:
        assert seat.digest not in self._seats
        self._seats[seat.digest] = seat
        return seat

    def use(self, digest: str) -> None:
        """Somebody asks for this adapter, here or not."""
        self._worth.use(digest)
        seat = self._seats.get(digest)
        if seat is not None and seat.adapter is not None:
            self._worth.weigh(digest, seat.num_bytes, seat.load_s)

    def fill(self, seat: Seat, adapter: LoadedAdapter, load_s: float) -> None:
        """The adapter has come; from here on its bytes are counted exactly."""
        seat.adapter, seat.load_s = adapter, load_s
        self.take(seat, adapter.num_bytes)
        self._worth.weigh(seat.digest, seat.num_bytes, load_s)

    def take(self, seat: Seat, num_bytes: int) -> None:
        """Set what the seat weighs."""
        self.num_bytes += num_bytes - seat.num_bytes
        self.peak_bytes = max(self.peak_bytes, self.num_bytes)
        seat.num_bytes = num_bytes

    def remove(self, seat: Seat) -> bool:
        """Whether it was there; a digest may have been given a new seat since."""
        if self._seats.get(seat.digest) is not seat:
            return False
        self.take(seat, 0)
        del self._seats[seat.digest]
        return True

    def make_room(self, num_bytes: int = 0) -> bool:
        """Evict what is cheapest to lose until this much more fits; False when nothing is left to evict."""
        while self.num_bytes + num_bytes > self.byte_budget:
            digest = self._worth.cheapest(seat.digest for seat in self._evictable())
            if digest is None:
                return False
            self._worth.evict(digest)
            self.remove(self._seats[digest])
            self.evictions += 1
        return True

    def could_fit(self, num_bytes: int) -> bool:
        """Whether `make_room` would succeed."""
        idle = sum(seat.num_bytes for seat in self._evictable())
        return self.num_bytes - idle + num_bytes <= self.byte_budget

    def is_wanted(self, seat: Seat) -> bool:
        """Whether anybody still waits for it, or it is to be kept."""
        return seat.digest in self.pinned or any(not pending.cancelled() for pending in seat.waiting)

    def check_integrity(self) -> None:
        assert self.num_bytes == sum(seat.num_bytes for seat in self._seats.values())
        for digest, seat in self._seats.items():
            assert seat.digest == digest
            assert seat.leases >= 0, f"{digest} has {seat.leases} leases"
            if seat.adapter is None:
                assert not seat.leases, f"{digest} is leased before it is here"
            else:
                assert not seat.waiting, f"{digest} is here and still waited for"
                assert seat.num_bytes == seat.adapter.num_bytes
        if self.num_bytes > self.byte_budget:
            assert not self._evictable(), "over the budget although something is evictable"

    def _evictable(self) -> list[Seat]:
        return [seat for seat in self.resident() if not seat.leases and seat.digest not in self.pinned]
