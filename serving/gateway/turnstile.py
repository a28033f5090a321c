"""How many requests of one kind are inside at once, where each holds something for long. Knows not what they do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from registry.errors import Busy
from serving.gateway.trace import Trace


class Turnstile:
    """For one thread. Whoever finds it full is told to come back."""

    def __init__(self, places: int, what: str, retry_after_s: float) -> None:
        self._places = places
        self._what = what
        self._retry_after_s = retry_after_s
        self.inside = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """Take a place for a while. Busy: there is none."""
        self._enter()
        try:
            yield
        finally:
            self._leave()

    def enter(self, trace: Trace) -> None:
        """Take a place until the request is over, however it ends: for streams, which outlive their handler."""
        self._enter()
        trace.at_end = self._leave

    def _enter(self) -> None:
        if self.inside >= self._places:
            message = f"{self.inside} {self._what} are open here, which is all there may be at once"
            raise Busy(message, retry_after_s=self._retry_after_s)
        self.inside += 1

    def _leave(self) -> None:
        self.inside -= 1
