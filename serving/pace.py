"""Work beside running rows, for a share of the time: loading an adapter must not be felt between two tokens.

A step's threads wait for each other at every product: a loader that takes a core for a few milliseconds holds all rows
up for as long. So it works in short turns, and rests in between while rows run. Knows no adapter and no engine.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

SHARE = 0.25
"""Of one core, while rows run."""
TURN_S = 0.001
"""Least work between two rests."""


class Pace:
    """Called often by the thread that works; sleeps when it is time to. One Pace serves any number of threads."""

    def __init__(
        self,
        is_busy: Callable[[], bool],
        *,
        clock: Callable[[], float] = time.thread_time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._is_busy = is_busy
        self._clock = clock
        self._sleep = sleep
        self._own = threading.local()

    def __call__(self, *_: object) -> None:
        """Takes any arguments, so that it may listen to progress."""
        now = self._clock()
        rested_at: float | None = getattr(self._own, "rested_at", None)
        if rested_at is not None and now - rested_at < TURN_S:
            return
        if rested_at is not None and self._is_busy():
            self._sleep((now - rested_at) * (1 / SHARE - 1))
        self._own.rested_at = self._clock()


def unhurried(*_: object) -> None:
    """The pace of work that disturbs nobody."""
