"""Work that must not be felt between two tokens, such as loading an adapter, done between steps, a little at a time.

The threads of a step wait for each other at every product, so whoever takes a core from one of them for a moment holds
all rows up for longer. Here the worker waits until a step is over, and the next step begins when the worker's turn is
over. A turn is longer after a long step: the next token is late by the same share, and whoever waits for the work waits
for fewer steps. While no rows run, nobody waits. Knows no adapter and no step.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

TURN_S = 0.003
"""The longest turn after a short step."""
SHARE = 0.2
"""Of a longer step, the longest turn after it."""
WAITED = 4.0
"""Whoever spent so many times his processor time since he last came, and `TURN_S` more, was waiting for a network."""
POLL_S = 0.1
"""How soon a waiting worker notices that nobody gives turns any more. Asking wakes it in the middle of a step."""


class Turns:
    """Any number of workers, each of which calls `take` often and `leave` in the end; and one loop that `give`s."""

    def __init__(self, is_busy: Callable[[], bool], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._is_busy = is_busy
        self._clock = clock
        self._changed = threading.Condition()
        self._own = threading.local()
        self._turn = 0
        self._until = 0.0
        self._waiting = self._working = 0

    def take(self, *_: object) -> None:
        """Wait for a turn, unless there is time left in this thread's own for another piece of work like the last.

        Takes anything, so as to hear of progress.
        A worker that waits for a network needs little of any core: it neither waits here nor holds a step up.
        """
        piece_s, has_waited = self._piece()
        if has_waited:
            with self._changed:
                self._end_turn()
            return
        with self._changed:
            if self._has_turn and self._clock() + piece_s < self._until:
                return
            self._end_turn()
            before = self._turn
            self._waiting += 1
            try:
                while self._turn == before and self._is_busy():
                    self._changed.wait(POLL_S)
            finally:
                self._waiting -= 1
            self._own.turn = self._turn if self._turn != before else None
            self._own.came = self._clock(), time.thread_time()

    def leave(self) -> None:
        """This thread's work is done; what it does until it has some again is nobody's."""
        self._own.came = None
        with self._changed:
            self._end_turn()

    def give(self, step_s: float) -> None:
        """Let those who wait work, after a step that took so long: until they have had their turn, or left, or it is
        over."""
        if not self._waiting:
            return
        turn_s = max(TURN_S, SHARE * step_s)
        with self._changed:
            self._turn += 1
            self._working = self._waiting
            self._until = self._clock() + turn_s
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._working <= 0, turn_s)

    def _piece(self) -> tuple[float, bool]:
        """How long this thread's last piece of work took, and whether most of that was waiting for a network."""
        now, worked = self._clock(), time.thread_time()
        came, had_worked = getattr(self._own, "came", None) or (now, worked)
        self._own.came = now, worked
        return now - came, now - came > WAITED * (worked - had_worked) + TURN_S

    @property
    def _has_turn(self) -> bool:
        return getattr(self._own, "turn", None) == self._turn

    def _end_turn(self) -> None:
        if self._has_turn:
            self._own.turn = None
            self._working -= 1
            self._changed.notify_all()
