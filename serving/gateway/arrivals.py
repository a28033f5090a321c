"""What has come for one reader, who takes all of it at once, or waits for more. Knows nothing of what it is."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

from serving.gateway.alarm import Alarm

T = TypeVar("T")


class Arrivals(Generic[T]):
    """For one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pile: list[T] = []
        self._waiting: asyncio.Future[None] | None = None
        self._silence = Alarm(self._wake, loop)

    def add(self, item: T) -> None:
        self._pile.append(item)
        self._wake()

    async def take(self, silence_s: float) -> list[T]:
        """Everything that has come since the last time; nothing, if nothing comes for so long."""
        if not self._pile:
            self._waiting = self._loop.create_future()
            self._silence.set(silence_s)
            try:
                await self._waiting
            finally:
                self._silence.clear()
        taken, self._pile = self._pile, []
        return taken

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
