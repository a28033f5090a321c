"""Rings after a while without a sign of life. Made to be told of every token, by adding one to `signs`: a timer of the
event loop's own for each would cost more than the token. Knows nothing of what it watches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

LOOKS = 4
"""How often it looks within the time that may pass in silence; it rings late by up to one of them."""


class Alarm:
    """For one event loop."""

    def __init__(self, ring: Callable[[], None], loop: asyncio.AbstractEventLoop) -> None:
        self._ring = ring
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self.signs = 0

    def watch(self, silence_s: float) -> None:
        """Ring each time that so long nothing was told, until it is closed."""
        if self._timer is None:
            self._look_again(silence_s, 0)

    def close(self) -> None:
        """Keep nothing alive any longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_again(self, silence_s: float, silent_looks: int) -> None:
        self._timer = self._loop.call_later(silence_s / LOOKS, self._look, silence_s, self.signs, silent_looks)

    def _look(self, silence_s: float, signs: int, silent_looks: int) -> None:
        silent_looks = silent_looks + 1 if signs == self.signs else 0
        self._look_again(silence_s, silent_looks % LOOKS)
        if silent_looks == LOOKS:
            self._ring()
