"""The open requests, and what other threads want of the engine: new ones, aborts, the end. Knows no scheduler.

Every method but `take` may be called from any thread; none blocks for longer than a step of bookkeeping.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

from registry.errors import Busy, Conflict, Unavailable
from serving.answer import Answer
from serving.request import Reason


@dataclass(frozen=True, eq=False)
class Arrivals:
    """What has changed since the last step."""

    arrived: list[Answer]
    ended: list[tuple[Answer, Reason]]
    """Whom nobody waits for any more: aborted, or past their deadline."""


class Inbox:
    def __init__(self, max_open: int, clock: Callable[[], float]) -> None:
        self._max_open = max_open
        self._clock = clock
        self._changed = threading.Condition()
        self._open: dict[str, Answer] = {}
        self._arrived: list[Answer] = []
        self._aborted: set[str] = set()
        self._next_deadline = math.inf
        self._closing = False

    def __len__(self) -> int:
        return len(self._open)

    @property
    def is_closing(self) -> bool:
        return self._closing

    def put(self, answer: Answer) -> None:
        request = answer.request
        with self._changed:
            if self._closing:
                raise Unavailable("the engine is shutting down")
            if len(self._open) >= self._max_open:
                raise Busy(f"the queue is full: {len(self._open)} requests are open")
            if request.id in self._open:
                raise Conflict(f"request {request.id} is already open")
            self._open[request.id] = answer
            self._arrived.append(answer)
            if request.deadline is not None:
                self._next_deadline = min(self._next_deadline, request.deadline)
            self._changed.notify_all()

    def abort(self, request_id: str) -> None:
        with self._changed:
            if request_id in self._open:
                self._aborted.add(request_id)
                self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def release(self, answer: Answer) -> None:
        """The answer is over; its id may be used again."""
        with self._changed:
            self._open.pop(answer.request.id, None)
            self._aborted.discard(answer.request.id)

    def open(self) -> list[Answer]:
        with self._changed:
            return list(self._open.values())

    def take(self, wait: bool) -> Arrivals | None:
        """What has come in; None when closing. `wait`: until something has. For the engine's thread only."""
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._closing or self._arrived or self._aborted)
            if self._closing:
                return None
            arrived, self._arrived = self._arrived, []
            ended: list[tuple[Answer, Reason]] = [(self._open[name], "abort") for name in self._aborted]
            if self._clock() >= self._next_deadline:
                ended += [(answer, "deadline") for answer in self._late() if answer.request.id not in self._aborted]
            self._aborted = set()
        return Arrivals(arrived, ended)

    def _late(self) -> list[Answer]:
        now = self._clock()
        dated = [(answer.request.deadline, answer) for answer in self._open.values()]
        self._next_deadline = min((at for at, _ in dated if at is not None and at > now), default=math.inf)
        return [answer for at, answer in dated if at is not None and at <= now]
