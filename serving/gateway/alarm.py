"""Rings when something takes too long. Made to be set and cleared for every token: a timer of the loop's own for each
would cost more than the token. Knows nothing of what it watches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Alarm:
    """For one event loop. However often it is set there is one timer, which looks again when it came too early."""

    def __init__(self, ring: Callable[[], None], loop: asyncio.AbstractEventLoop) -> None:
        self._ring = ring
        self._loop = loop
        self._due: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def set(self, after_s: float) -> None:
        """Ring then, unless it is set anew or cleared before."""
        self._due = self._loop.time() + after_s
        if self._timer is None or self._timer.when() > self._due:
            self.close()
            self._timer = self._loop.call_at(self._due, self._look)

    def clear(self) -> None:
        self._due = None

    def close(self) -> None:
        """Keep nothing alive any longer. It may be set again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._due is None:
            return
        if self._loop.time() < self._due:
            self._timer = self._loop.call_at(self._due, self._look)
        else:
            self._due = None
            self._ring()
