"""Events on their way from the engine's thread to event loops: one wake-up of a loop for all that has piled up.

A step ends with an event for each of its rows. To wake the loop for every one of them costs more than the event, on
both sides, and the engine's thread would lose the interpreter to the loop in between. Knows no request.
"""

from __future__ import annotations

import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import TypeAlias

Delivery: TypeAlias = Callable[[], None]


class Post:
    """`put` from any thread; deliveries are made on their loop, in order."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._piles: dict[AbstractEventLoop, list[Delivery]] = {}

    def put(self, loop: AbstractEventLoop, delivery: Delivery) -> None:
        """Where the loop is gone nobody waits for it any more."""
        with self._guard:
            if pile := self._piles.get(loop):
                pile.append(delivery)
                return
            self._piles[loop] = [delivery]
        try:
            loop.call_soon_threadsafe(self._deliver, loop)
        except RuntimeError:
            with self._guard:
                del self._piles[loop]

    def _deliver(self, loop: AbstractEventLoop) -> None:
        with self._guard:
            pile = self._piles.pop(loop)
        for delivery in pile:
            try:
                delivery()
            except Exception as error:  # noqa: BLE001 - one that fails takes no other along
                loop.call_exception_handler({"message": "an event could not be delivered", "exception": error})
