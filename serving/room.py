"""Room in the byte budget, for loads to wait for. Guards the ledger of seats; loads nothing.

A load that finds no room waits for some, and only after `patience_s` exceeds the budget, and is counted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from registry.errors import Busy, Refused, Unavailable
from serving.seats import Seat, Seats


class Room:
    """`changed` guards the seats and whatever goes with them; it is notified when a load may find room."""

    def __init__(self, byte_budget: int, patience_s: float, clock: Callable[[], float]) -> None:
        self.changed = threading.Condition()
        self.seats = Seats(byte_budget)
        self.is_closed = False
        self.overdrafts = 0
        self._patience_s = patience_s
        self._clock = clock

    def reserve(self, seat: Seat, num_bytes: int, name: str) -> None:
        """Take the bytes out of the budget, waiting for room if anybody waits for the adapter, which is called so."""
        seats = self.seats
        if num_bytes > seats.byte_budget:
            raise Refused(
                f"{name} needs {num_bytes:,} bytes, more than the whole budget of {seats.byte_budget:,}",
                hint="raise LORIMER_ADAPTER_BYTES",
            )
        with self.changed:
            since = self._clock()
            self.changed.wait_for(
                lambda: self.is_closed or seats.could_fit(num_bytes) or not seats.is_wanted(seat), self._patience_s
            )
            seat.waited_s = self._clock() - since
            if self.is_closed:
                raise closing()
            if not seats.could_fit(num_bytes):
                if not seats.is_wanted(seat):
                    seats.remove(seat)
                    raise Busy(f"there is no room to prefetch {name}")
                self.overdrafts += 1
            seats.make_room(num_bytes)
            seats.take(seat, num_bytes)

    def settle(self) -> None:
        """Something may have become evictable: return to the budget, and let loads look again."""
        self.seats.make_room()
        self.changed.notify_all()

    def check_integrity(self) -> None:
        self.seats.check_integrity()
        assert self.seats.num_bytes <= self.seats.byte_budget or self.overdrafts, "over the budget without an overdraft"


def closing() -> Unavailable:
    return Unavailable("the engine is shutting down")
