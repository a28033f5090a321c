"""Which adapters are in memory: a byte budget, one load at a time per adapter, and leases that pin what is in use.

Loads run in their own threads, so that rows already running never wait for a cold adapter. Knows no batch.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from registry.errors import Busy, LorimerError, Unavailable
from serving.adapter import LoadedAdapter
from serving.base import Base

LOADERS = 2


@dataclass(eq=False)
class _Seat:
    """One resident or arriving adapter. Evictable once loaded and while nobody leases it."""

    future: Future[LoadedAdapter]
    leases: int = 0
    uses: int = 0
    last_used: float = 0.0
    load_s: float = 0.0
    num_bytes: int = 0

    def keep_value(self, now: float) -> float:
        """What evicting would cost per byte freed: reload time times how often it is used, fading with idleness."""
        return self.load_s * self.uses / (max(self.num_bytes, 1) * (1.0 + now - self.last_used))


@dataclass(frozen=True)
class ResidencyStats:
    resident: int
    resident_bytes: int
    byte_budget: int
    leased: int
    hits: int
    misses: int
    evictions: int
    load_seconds: float


@dataclass(eq=False)
class Lease:
    """The right to use an adapter. It stays in memory until released; releasing twice is harmless."""

    adapter: LoadedAdapter
    load_s: float
    _release: Callable[[], None]
    _open: bool = field(default=True)

    def release(self) -> None:
        if self._open:
            self._open = False
            self._release()

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Residency:
    """Adapters by digest. `fetch` gives a verified local directory of a digest, however long that takes."""

    def __init__(
        self,
        fetch: Callable[[str], Path],
        base: Base,
        byte_budget: int,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._base = base
        self._budget = byte_budget
        self._clock = clock
        self._lock = threading.Lock()
        self._seats: dict[str, _Seat] = {}
        self._loaders = ThreadPoolExecutor(LOADERS, thread_name_prefix="adapter-loader")
        self._hits = self._misses = self._evictions = 0
        self._load_seconds = 0.0

    def acquire(self, digest: str, timeout_s: float | None = None) -> Lease:
        """Lease an adapter, loading it if need be. Raises what the load raised; Busy after `timeout_s`."""
        started = self._clock()
        with self._lock:
            seat = self._seats.get(digest)
            if seat is None:
                self._misses += 1
                seat = self._seats[digest] = _Seat(self._submit(digest))
            else:
                self._hits += 1
            seat.leases += 1
            seat.uses += 1
            seat.last_used = started
        try:
            adapter = seat.future.result(timeout_s)
        except TimeoutError as error:
            self._release(seat)
            raise Busy(f"adapter {digest[:19]} is still loading") from error
        except BaseException:
            self._release(seat)
            raise
        return Lease(adapter, self._clock() - started, lambda: self._release(seat))

    def try_acquire(self, digest: str) -> Lease | None:
        """A lease at once if the adapter is in memory, else None; never waits."""
        with self._lock:
            seat = self._seats.get(digest)
            if seat is None or not seat.num_bytes:
                return None
            self._hits += 1
            seat.leases += 1
            seat.uses += 1
            seat.last_used = self._clock()
        return Lease(seat.future.result(), 0.0, lambda: self._release(seat))

    def prefetch(self, digest: str) -> None:
        """Start loading without waiting and without a lease."""
        with self._lock:
            if digest not in self._seats:
                self._misses += 1
                self._seats[digest] = _Seat(self._submit(digest), last_used=self._clock())

    def is_resident(self, digest: str) -> bool:
        with self._lock:
            seat = self._seats.get(digest)
            return seat is not None and seat.num_bytes > 0

    def stats(self) -> ResidencyStats:
        with self._lock:
            resident = [seat for seat in self._seats.values() if seat.num_bytes]
            return ResidencyStats(
                resident=len(resident),
                resident_bytes=sum(seat.num_bytes for seat in resident),
                byte_budget=self._budget,
                leased=sum(seat.leases > 0 for seat in resident),
                hits=self._hits,
                misses=self._misses,
                evictions=self._evictions,
                load_seconds=self._load_seconds,
            )

    def check_integrity(self) -> None:
        """Our own invariants; for tests and idle moments."""
        with self._lock:
            for digest, seat in self._seats.items():
                assert seat.leases >= 0, f"{digest} has {seat.leases} leases"
                if seat.future.done() and seat.num_bytes:
                    assert seat.future.result().num_bytes == seat.num_bytes
            idle = [seat for seat in self._seats.values() if seat.num_bytes and not seat.leases]
            assert not idle or self._used() <= self._budget, "over budget although something is evictable"

    def close(self) -> None:
        self._loaders.shutdown(wait=True, cancel_futures=True)

    def _submit(self, digest: str) -> Future[LoadedAdapter]:
        try:
            return self._loaders.submit(self._load, digest)
        except RuntimeError as error:
            raise Unavailable("the engine is shutting down") from error

    def _load(self, digest: str) -> LoadedAdapter:
        started = self._clock()
        try:
            adapter = LoadedAdapter.from_directory(self._fetch(digest), self._base, digest=digest)
        except LorimerError:
            self._forget(digest)
            raise
        except Exception as error:
            self._forget(digest)
            raise Unavailable(f"adapter {digest[:19]} cannot be loaded: {error}") from error
        with self._lock:
            seat = self._seats[digest]
            seat.num_bytes = max(adapter.num_bytes, 1)
            seat.load_s = max(self._clock() - started, 1e-6)
            self._load_seconds += seat.load_s
            self._make_room()
        return adapter

    def _forget(self, digest: str) -> None:
        """A failed load leaves nothing behind: the next caller tries afresh."""
        with self._lock:
            del self._seats[digest]

    def _release(self, seat: _Seat) -> None:
        with self._lock:
            seat.leases -= 1
            seat.last_used = self._clock()
            self._make_room()

    def _make_room(self) -> None:
        """Evict the cheapest to lose until within budget. Leased adapters stay, even beyond the budget."""
        while self._used() > self._budget:
            now = self._clock()
            idle = [(seat.keep_value(now), digest) for digest, seat in self._seats.items() if _evictable(seat)]
            if not idle:
                return
            del self._seats[min(idle)[1]]
            self._evictions += 1

    def _used(self) -> int:
        return sum(seat.num_bytes for seat in self._seats.values())


def _evictable(seat: _Seat) -> bool:
    return seat.num_bytes > 0 and seat.leases == 0
