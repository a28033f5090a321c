"""Events on their way from the engine's thread to event loops: one wake-up of a loop for all that piled up in a step.

To wake the loop for each event costs more than the event, on both sides. And to wake it before the step is over has it
take the interpreter from the engine's thread, which then waits for all that the loop has to do. Knows no request.
"""

from __future__ import annotations

import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

Delivery: TypeAlias = Callable[[], None]


class Post:
    """`put` and `send` from any thread; deliveries are made on their loop, in order."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._piles: dict[AbstractEventLoop, list[Delivery]] = {}

    def put(self, loop: AbstractEventLoop, delivery: Delivery) -> None:
        """To be delivered once all is sent."""
        with self._guard:
            self._piles.setdefault(loop, []).append(delivery)

    def send(self) -> None:
        """Where a loop is gone nobody waits for it any more."""
        if not self._piles:
            return
        with self._guard:
            piles, self._piles = self._piles, {}
        for loop, pile in piles.items():
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_deliver, loop, pile)


def _deliver(loop: AbstractEventLoop, pile: list[Delivery]) -> None:
    for delivery in pile:
        try:
            delivery()
        except Exception as error:  # noqa: BLE001 - one that fails takes no other along
            loop.call_exception_handler({"message": "an event could not be delivered", "exception": error})
