"""The engine rows behind one HTTP request, seen from the event loop. Knows no HTTP and no dialect.

Events come on the engine's thread and are posted to the loop. Whatever becomes of the HTTP side, every submitted row
ends with `Finished`, and `on_done` runs exactly once after the last of them.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from registry.errors import LorimerError, Unavailable
from serving.engine import Engine
from serving.gateway.arrivals import Arrivals
from serving.gateway.errors import DeadlinePassed
from serving.gateway.post import Post
from serving.request import Event, Finished, Request, Timings, Token, Usage

UNBOUNDED = 1 << 31


@dataclass(eq=False)
class Row:
    """One answer as it grows."""

    request: Request
    tokens: list[Token] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    """`time.perf_counter` of each token."""
    finished: Finished | None = None

    @property
    def text(self) -> str:
        return "".join(token.text for token in self.tokens)

    def failure(self) -> LorimerError | None:
        """Why there is no whole answer; None when there is one, or will be."""
        if self.finished is None or self.finished.reason in ("stop", "length"):
            return None
        if self.finished.error is not None:
            return self.finished.error
        if self.finished.reason == "deadline":
            return DeadlinePassed("the time that the caller gave was over before the answer was complete")
        return Unavailable("the engine stopped before the answer was complete")


class Generation:
    """Create and use it on one event loop."""

    def __init__(
        self,
        engine: Engine,
        post: Post,
        requests: Sequence[Request],
        on_done: Callable[[], None],
        window: int = UNBOUNDED,
    ) -> None:
        """`window`: how many rows may be in the engine at once; the others follow as those end."""
        self.rows = [Row(request) for request in requests]
        self._waiting = deque(range(window, len(requests)))
        self._engine = engine
        self._post = post
        self._on_done = on_done
        self._loop = asyncio.get_running_loop()
        self._events = Arrivals[tuple[int, Event]](self._loop)
        self._done = asyncio.Event()
        self._running = 0

    def submit(self) -> None:
        """Hand the first rows to the engine, all or none: Busy or Invalid takes back those already handed over."""
        self._running = 1
        try:
            for index in range(len(self.rows) - len(self._waiting)):
                self._hand_over(index)
        except LorimerError:
            self.abort()
            raise
        finally:
            self._one_less()

    async def finished(self) -> list[Row]:
        """The rows once all have ended; raises the first failure."""
        await self._done.wait()
        for row in self.rows:
            if failure := row.failure():
                raise failure
        return self.rows

    @property
    def is_over(self) -> bool:
        """Whether all rows have ended; their last events may still be unread."""
        return self._done.is_set()

    def events(self, heartbeat_s: float) -> AsyncIterator[list[tuple[int, Event]]]:
        """Events of all rows, as many at once as there are; none after each `heartbeat_s` of silence."""
        return self._events.batches(heartbeat_s)

    def abort(self) -> None:
        """Free every unfinished row at the next step."""
        self._waiting.clear()
        for row in self.rows:
            if row.finished is None:
                self._engine.abort(row.request.id)

    def _hand_over(self, index: int) -> None:
        self._engine.submit(self.rows[index].request, partial(self._from_engine, index))
        self._running += 1

    def _follow(self, ended: Row) -> None:
        """A row has left the engine: the next may enter. After a failure none does."""
        if ended.failure() is not None:
            self._waiting.clear()
        if self._waiting:
            index = self._waiting.popleft()
            try:
                self._hand_over(index)
            except LorimerError as error:
                self._waiting.clear()
                self.rows[index].finished = Finished("error", Usage(0, 0), Timings(0.0, 0.0, 0.0), error)

    def _from_engine(self, index: int, event: Event) -> None:
        self._post.put(self._loop, partial(self._deliver, index, event))

    def _deliver(self, index: int, event: Event) -> None:
        row = self.rows[index]
        if isinstance(event, Token):
            row.tokens.append(event)
            row.arrivals.append(time.perf_counter())
        else:
            row.finished = event
        self._events.add((index, event))
        if row.finished is not None:
            self._follow(row)
            self._one_less()

    def _one_less(self) -> None:
        """`_running` counts submitted, unfinished rows, and one more while submitting."""
        self._running -= 1
        if self._running == 0:
            self._done.set()
            self._events.end()
            self._on_done()
