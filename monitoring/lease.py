"""One monitor at a time, with create-if-absent as the only lock.

A term is an object that exactly one contender creates; its holder keeps it alive with a heartbeat. Clocks decide only
when a contender tries. What a holder writes is filed under its term, so one that was asleep and wakes up after its term
cannot overwrite its successor's work.

    <prefix>/<term:020d>.json        created once per term
    <prefix>/<term:020d>.beat.json   overwritten by its holder
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from registry.errors import Corrupt, NotFound
from registry.store import Store, create_surely


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    owner: str
    time: float


class Lease:
    def __init__(self, store: Store, prefix: str, owner: str, duration_s: float, clock: Callable[[], float]) -> None:
        self._store = store
        self._prefix = prefix
        self._owner = owner
        self._duration_s = duration_s
        self._clock = clock
        self._newest = 0
        self._mine = 0
        self._beat_at = 0.0

    def hold(self) -> int | None:
        """The term we hold, taking a new one if the last holder fell silent; None while somebody else works."""
        self._newest = self._find_newest()
        if self._mine and self._mine == self._newest:
            if self._clock() - self._beat_at >= self._duration_s / 3:
                self._beat()
            return self._mine
        self._mine = 0
        if self._newest and self._clock() - self._last_beat() < self._duration_s:
            return None
        term = self._newest + 1
        if not create_surely(self._store, self._key(term), self._record(self._clock())):
            return None
        self._newest = self._mine = term
        self._beat()
        return term

    def release(self) -> None:
        """Let the next contender in at once."""
        if self._mine and self._mine == self._find_newest():
            self._store.put(self._beat_key(self._mine), self._record(0.0))
        self._mine = 0

    def _find_newest(self) -> int:
        terms = [self._newest]
        for key in self._store.list(f"{self._prefix}/", start_after=self._key(self._newest)):
            number, _, kind = key.rpartition("/")[2].partition(".")
            if kind == "json" and number.isdecimal():
                terms.append(int(number))
        return max(terms)

    def _last_beat(self) -> float:
        for key in (self._beat_key(self._newest), self._key(self._newest)):
            try:
                return msgspec.json.decode(self._store.get(key), type=Beat).time
            except NotFound:
                continue
            except msgspec.DecodeError as error:
                raise Corrupt(f"{key} is not a heartbeat: {error}") from error
        return 0.0

    def _beat(self) -> None:
        self._beat_at = self._clock()
        self._store.put(self._beat_key(self._mine), self._record(self._beat_at))

    def _record(self, time: float) -> bytes:
        return msgspec.json.encode(Beat(owner=self._owner, time=time))

    def _key(self, term: int) -> str:
        return f"{self._prefix}/{term:020d}.json"

    def _beat_key(self, term: int) -> str:
        return f"{self._prefix}/{term:020d}.beat.json"
