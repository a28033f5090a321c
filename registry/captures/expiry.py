"""Takes out what is older than its adapter's owner wants it kept. Asks for the owners' word; decides nothing.

What an adapter keeps for N days is gone at the first run after day N. Objects of days that nothing can have expired
on are not read, and those of past days only once by one Expiry: it remembers whose records they hold and how old they
are.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache

import msgspec

from registry.captures.erasures import Erasures
from registry.captures.objects import CaptureObjects, day_of
from registry.captures.records import CaptureRecord, Record
from registry.captures.sweep import Sweep
from registry.parallel import at_once
from registry.store import Store

DAY_S = 86_400.0
Days = Callable[[str], float | None]
"""Adapter -> how many days its captures are kept; None: until somebody takes them out."""


class Expired(msgspec.Struct, frozen=True, kw_only=True):
    """What a run took out, and how many objects were written anew or deleted for it."""

    requests: int = 0
    feedback: int = 0
    objects: int = 0


class Expiry:
    """For one tenant. For one thread."""

    def __init__(self, store: Store, tenant: str, clock: Callable[[], float] = time.time) -> None:
        self._objects = CaptureObjects(store, tenant)
        self._sweep = Sweep(self._objects, Erasures(store, tenant, clock))
        self._clock = clock
        self._oldest: dict[str, dict[str, float]] = {}
        """Past day -> adapter -> its oldest record."""

    def run(self, days_of: Days, *, today: bool = False) -> Expired:
        """Stopped anywhere, it can be run again. `today`: what was written today may have expired, too."""
        now, ask = self._clock(), lru_cache(None)(days_of)

        def is_over(adapter: str, time_s: float) -> bool:
            days = ask(adapter)
            return days is not None and time_s < now - days * DAY_S

        expired = Expired()
        for day in self._objects.days():
            known = self._oldest.get(day)
            due = known is None or any(is_over(adapter, oldest) for adapter, oldest in known.items())
            if due and (today or day < day_of(now)):
                expired = _sum(expired, self._run_day(day, lambda record: is_over(record.adapter, record.time)))
        return expired

    def _run_day(self, day: str, expires: Callable[[Record], bool]) -> Expired:
        keys = self._objects.of_day(day)
        oldest: dict[str, float] = {}
        stale = []
        for key, records in zip(keys, at_once(self._objects.read, keys), strict=True):
            for record in records:
                if not expires(record):
                    oldest[record.adapter] = min(record.time, oldest.get(record.adapter, record.time))
            if any(map(expires, records)):
                stale.append(key)
        taken = self._sweep.take_out(stale, expires) if stale else None
        if day < day_of(self._clock()):
            self._oldest[day] = oldest
        if taken is None:
            return Expired()
        requests = sum(isinstance(record, CaptureRecord) for record in taken.records)
        return Expired(requests=requests, feedback=len(taken.records) - requests, objects=taken.num_objects)


def _sum(one: Expired, other: Expired) -> Expired:
    return Expired(
        requests=one.requests + other.requests,
        feedback=one.feedback + other.feedback,
        objects=one.objects + other.objects,
    )
