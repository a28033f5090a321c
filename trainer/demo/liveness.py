"""When was which digest live? The check behind "no answer came from a version that was not serving"."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from trainer.demo.traffic import Answer


@dataclass(frozen=True)
class Window:
    """An alias pointed at `digest` from `start` to `end` (seconds, monotonic clock, widened by the moves' own time)."""

    digest: str
    start: float
    end: float


class Liveness:
    """Records an alias's moves and judges answers against them."""

    def __init__(self, digest: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: list[Window] = []
        self._digest = digest
        self._since = float("-inf")
        self.moves = 0

    @contextmanager
    def moving_to(self, digest: str) -> Iterator[None]:
        """Wrap one alias move: the new digest may be live from its start, the old one until its end."""
        started = self._clock()
        yield
        self._windows.append(Window(self._digest, self._since, self._clock()))
        self._digest, self._since = digest, started
        self.moves += 1

    def stale(self, answers: list[Answer]) -> list[Answer]:
        """The answers whose digest was live at no moment between question and answer."""
        windows = [*self._windows, Window(self._digest, self._since, float("inf"))]
        return [answer for answer in answers if not any(_overlaps(answer, window) for window in windows)]


def _overlaps(answer: Answer, window: Window) -> bool:
    return answer.digest == window.digest and answer.asked <= window.end and answer.answered >= window.start
