"""Versions that misbehaved while serving: they are not served again until an operator says so, or the process restarts.

The engine reports a version whose row gave numbers that are not finite, or raised. Requests for it are then refused by
name: never a silent fallback to another version. Knows no HTTP.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from registry.errors import LorimerError, NotFound, Unavailable
from serving.adapter import LoadedAdapter


class Quarantined(Unavailable):
    """The version asked for misbehaved; asking again does not help."""


@dataclass(frozen=True)
class Case:
    """Why a digest is in quarantine. `times` counts the rows at fault, `refused` the requests turned away since."""

    digest: str
    name: str
    reason: str
    since: float
    times: int = 1
    refused: int = 0

    def called(self, name: str) -> Case:
        """The case in the words of somebody else who has the same bytes, under another name."""
        return replace(self, name=name, reason=self.reason.replace(self.name, name))


class Quarantine:
    """Cases by digest; safe for threads, and never blocks."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._cases: dict[str, Case] = {}

    def report(self, adapter: LoadedAdapter, error: LorimerError) -> None:
        """A row of this adapter failed by the adapter's fault."""
        with self._lock:
            case = self._cases.get(adapter.digest)
            if case is None:
                self._cases[adapter.digest] = Case(adapter.digest, adapter.name, error.message, self._clock())
            else:
                self._cases[adapter.digest] = replace(case, times=case.times + 1)

    def check(self, digest: str, name: str | None = None) -> None:
        """Quarantined, if it is. `name` is what the caller calls it: others may have the same bytes."""
        with self._lock:
            case = self._cases.get(digest)
            if case is None:
                return
            self._cases[digest] = replace(case, refused=case.refused + 1)
        case = case.called(name or case.name)
        raise Quarantined(
            f"{case.name} ({digest[:19]}) is quarantined: {case.reason}",
            hint="move its alias to a sound version; an operator may release it at /api/quarantine",
        )

    def release(self, digest: str) -> Case:
        """Serve it again. NotFound if it is not quarantined."""
        with self._lock:
            case = self._cases.pop(digest, None)
        if case is None:
            raise NotFound(f"{digest} is not quarantined")
        return case

    def cases(self) -> list[Case]:
        with self._lock:
            return sorted(self._cases.values(), key=lambda case: case.since)
