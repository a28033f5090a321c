"""Which adapters are in memory: an exact byte budget, one load at a time per adapter, leases on what is in use.

    store -> disk -> device       `fetch` verifies the disk's copy; the device's copy is what the engine multiplies with

On a CPU-only host the device is the host's own memory: the tensors that a step reads lie there once and nowhere else. A
load reserves its bytes before it takes them, evicting what is cheapest to lose. What is leased, pinned or loading is
never evicted: serving/room.py says what a load does that finds no room. Loads run in their own threads, so that rows
already running never wait for a cold adapter. Knows no batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path

from registry.errors import Busy, LorimerError, Unavailable
from serving.adapter import LoadedAdapter
from serving.adapter_file import AdapterFile
from serving.backoff import Backoff
from serving.base import Base
from serving.footprint import footprint
from serving.lease import Lease, give_up
from serving.loaders import Loaders
from serving.room import Room, closing
from serving.seats import Make, Reserve, Seat
from serving.slab import reusing
from serving.turns import Turns

LOADERS = 2
PATIENCE_S = 1.0
CLOSE_S = 5.0


@dataclass(frozen=True)
class ResidencyStats:
    """Counters since the start, except what is resident, loading, leased and pinned now."""

    resident: int = 0
    resident_bytes: int = 0
    loading: int = 0
    loading_bytes: int = 0
    byte_budget: int = 0
    peak_bytes: int = 0
    leased: int = 0
    pinned: int = 0
    hits: int = 0
    misses: int = 0
    prefetches: int = 0
    evictions: int = 0
    overdrafts: int = 0
    """Loads that exceeded the budget because nothing could be evicted for `patience_s`."""
    failures: int = 0
    held_back: int = 0
    """Requests answered with an earlier failure, without a new try."""
    load_seconds: float = 0.0


class Residency:
    """Adapters by digest. `fetch` gives a verified local directory of a digest, however long that takes.

    `name_of` says how people call a digest; loads take `turns` with whoever gives them.
    """

    def __init__(
        self,
        fetch: Callable[[str], Path],
        base: Base,
        byte_budget: int,
        *,
        name_of: Callable[[str], str] = lambda digest: digest[:19],
        turns: Turns | None = None,
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._name_of = name_of
        self._base = base
        self._turns = turns or Turns(lambda: False)
        self._clock = clock
        self._room = Room(byte_budget, patience_s, clock)
        self._seats = self._room.seats
        self._backoff = Backoff(clock)
        self._stats = ResidencyStats(byte_budget=byte_budget)
        self._loaders = Loaders(LOADERS)

    def request(self, digest: str, make: Make | None = None) -> Future[Lease]:
        """A lease, at once when the adapter is here, else once it is; never blocks. Raises a failure of just now.

        `make` makes an adapter that no store holds, such as a mix. Release the lease, or `give_up` the future.
        """
        pending: Future[Lease] = Future()
        with self._room.changed:
            if (lease := self.held(digest)) is not None:
                pending.set_result(lease)
                return pending
            self._seats.use(digest)
            seat = self._seats.get(digest)
            if seat is None:
                self._raise_standing_failure(digest)
                seat = self._open(digest, make or self._from_store(digest))
            self._count(misses=1)
            seat.waiting.append(pending)
            if len(seat.waiting) == 1:
                self._loaders.submit(lambda: self._load(seat), urgent=True)
        return pending

    def held(self, digest: str) -> Lease | None:
        """A lease if the adapter is here, without asking for it if it is not."""
        with self._room.changed:
            seat = self._seats.get(digest)
            if seat is None or seat.adapter is None:
                return None
            self._seats.use(digest)
            self._count(hits=1)
            return self._lease(seat, 0.0)

    def acquire(self, digest: str, timeout_s: float | None = None) -> Lease:
        """As `request`, and wait for it. Raises what the load raised; Busy after `timeout_s`."""
        pending = self.request(digest)
        try:
            return pending.result(timeout_s)
        except TimeoutError as error:
            give_up(pending)
            raise Busy(f"{self._name_of(digest)} is still loading") from error
        except KeyboardInterrupt:
            give_up(pending)
            raise

    def prefetch(self, digest: str) -> None:
        """Start loading behind all that is waited for; dropped when there is no room, or it failed just now."""
        with self._room.changed:
            if self._seats.get(digest) is None and self._backoff.standing(digest) is None:
                seat = self._open(digest, self._from_store(digest))
                self._count(prefetches=1)
                self._loaders.submit(lambda: self._load(seat), urgent=False)

    def pin(self, digest: str) -> None:
        """Load it and keep it, leased or not. Pin again to retry a load that failed."""
        with self._room.changed:
            self._seats.pinned.add(digest)
            self.prefetch(digest)

    def unpin(self, digest: str) -> None:
        with self._room.changed:
            self._seats.pinned.discard(digest)
            self._room.settle()

    def is_resident(self, digest: str) -> bool:
        with self._room.changed:
            seat = self._seats.get(digest)
            return seat is not None and seat.adapter is not None

    def stats(self) -> ResidencyStats:
        with self._room.changed:
            seats, resident = self._seats, self._seats.resident()
            resident_bytes = sum(seat.num_bytes for seat in resident)
            return replace(
                self._stats,
                resident=len(resident),
                resident_bytes=resident_bytes,
                loading=len(seats.all()) - len(resident),
                loading_bytes=seats.num_bytes - resident_bytes,
                peak_bytes=seats.peak_bytes,
                leased=sum(seat.leases > 0 for seat in resident),
                pinned=len(seats.pinned),
                evictions=seats.evictions,
                overdrafts=self._room.overdrafts,
            )

    def check_integrity(self) -> None:
        """Our own invariants; for tests and idle moments."""
        with self._room.changed:
            self._room.check_integrity()

    def close(self) -> None:
        """End what waits with Unavailable, and the threads. Returns even if a store never answers."""
        with self._room.changed:
            self._room.is_closed = True
            unserved = [pending for seat in self._seats.all() for pending in _let_go(seat)]
            self._room.changed.notify_all()
        for pending in unserved:
            pending.set_exception(closing())
        self._loaders.close(CLOSE_S)

    def _raise_standing_failure(self, digest: str) -> None:
        error = self._backoff.standing(digest)
        if error is not None:
            self._count(held_back=1)
            raise error.with_traceback(None)

    def _open(self, digest: str, make: Make) -> Seat:
        if self._room.is_closed:
            raise closing()
        return self._seats.add(Seat(digest, make))

    def _lease(self, seat: Seat, load_s: float) -> Lease:
        assert seat.adapter is not None
        seat.leases += 1
        return Lease(seat.adapter, load_s, lambda lease: self._release(seat, lease))

    def _release(self, seat: Seat, lease: Lease) -> None:
        with self._room.changed:
            if lease.is_open:
                lease.is_open = False
                seat.leases -= 1
                self._room.settle()

    def _count(self, **more: float) -> None:
        self._stats = replace(self._stats, **{name: getattr(self._stats, name) + by for name, by in more.items()})

    # The loader's thread, from here on.

    def _load(self, seat: Seat) -> None:
        with self._room.changed:
            if seat.is_loading or self._room.is_closed:
                return
            seat.is_loading = True
        started = self._clock()
        self._turns.take()
        try:
            adapter = seat.make(lambda num_bytes: self._room.reserve(seat, num_bytes, self._name_of(seat.digest)))
        except LorimerError as error:
            self._failed(seat, error)
        except Exception as error:  # noqa: BLE001 - told to all who wait
            self._failed(seat, Unavailable(f"{self._name_of(seat.digest)} cannot be loaded: {error}"))
        else:
            self._arrived(seat, adapter, max(self._clock() - started - seat.waited_s, 1e-6))
        finally:
            self._turns.leave()

    def _from_store(self, digest: str) -> Make:
        def make(reserve: Reserve) -> LoadedAdapter:
            directory = self._fetch(digest)
            file = AdapterFile(directory, self._base.profile)
            with reusing():
                reserve(footprint(file, self._base))
                return LoadedAdapter.from_file(file, self._base, digest, self._name_of(digest), self._turns.take)

        return make

    def _arrived(self, seat: Seat, adapter: LoadedAdapter, load_s: float) -> None:
        with self._room.changed:
            is_larger = adapter.num_bytes > seat.num_bytes
            self._seats.fill(seat, adapter, load_s)
            self._backoff.succeeded(seat.digest)
            leases = [(pending, self._lease(seat, load_s)) for pending in _let_go(seat)]
            fits = self._seats.make_room()
            self._room.overdrafts += is_larger and not fits
            self._count(load_seconds=load_s)
        for pending, lease in leases:
            pending.set_result(lease)

    def _failed(self, seat: Seat, error: LorimerError) -> None:
        """Tell all who wait, and leave nothing behind but the memory of the failure."""
        with self._room.changed:
            if self._seats.remove(seat) and not self._room.is_closed:
                self._backoff.failed(seat.digest, error)
                self._count(failures=1)
            unserved = _let_go(seat)
            self._room.changed.notify_all()
        for pending in unserved:
            pending.set_exception(error)


def _let_go(seat: Seat) -> list[Future[Lease]]:
    """Those who still wait for it; they wait for nothing else from here on."""
    waiting, seat.waiting = seat.waiting, []
    return [pending for pending in waiting if pending.set_running_or_notify_cancel()]
