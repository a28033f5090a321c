"""What comes for one reader, who takes all that there is at once, or waits for more. Knows nothing of what it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
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
        self._has_ended = False

    def add(self, item: T) -> None:
        self._pile.append(item)
        self._silence.signs += 1
        self._wake()

    def end(self) -> None:
        """Nothing more comes."""
        self._has_ended = True
        self._silence.close()
        self._wake()

    async def batches(self, silence_s: float) -> AsyncIterator[list[T]]:
        """Everything that has come since the last batch, up to the end; nothing, if nothing comes for so long."""
        if not self._has_ended:
            self._silence.watch(silence_s)
        while self._pile or not self._has_ended:
            if not self._pile:
                self._waiting = self._loop.create_future()
                await self._waiting
            batch, self._pile = self._pile, []
            if batch or not self._has_ended:
                yield batch

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
