"""Many requests at once for a caller that waits: submits as the queue allows and gathers whole answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from registry.errors import Busy
from serving.request import Completion, Event, OnEvent, Request, Token

WINDOW = 64
"""Requests kept in flight: enough to fill every step, few enough to leave the queue to others."""
BUSY_PAUSE_S = 0.02


class Collector:
    """Gathers the answers to a list of requests."""

    def __init__(self, requests: Sequence[Request], progress: Callable[[int, int], None] | None) -> None:
        self._requests = requests
        self._progress = progress
        self._events: list[list[Token]] = [[] for _ in requests]
        self._completions: list[Completion | None] = [None] * len(requests)
        self._room = threading.Semaphore(WINDOW)
        self._left = len(requests)
        self._changed = threading.Condition()

    def run(self, submit: Callable[[Request, OnEvent], None]) -> list[Completion]:
        for index, request in enumerate(self._requests):
            self._room.acquire()
            self._submit(submit, index, request)
        with self._changed:
            self._changed.wait_for(lambda: self._left == 0)
        return [completion for completion in self._completions if completion is not None]

    def _submit(self, submit: Callable[[Request, OnEvent], None], index: int, request: Request) -> None:
        """Others may fill the queue: wait for them."""
        while True:
            try:
                return submit(request, lambda event: self._take(index, event))
            except Busy:
                time.sleep(BUSY_PAUSE_S)

    def _take(self, index: int, event: Event) -> None:
        """Runs on the engine's thread."""
        if isinstance(event, Token):
            self._events[index].append(event)
            return
        tokens = self._events[index]
        logprobs = tuple(token.logprob for token in tokens if token.logprob is not None)
        self._completions[index] = Completion(
            tokens=tuple(token.id for token in tokens),
            text="".join(token.text for token in tokens),
            reason=event.reason,
            usage=event.usage,
            logprobs=logprobs if len(logprobs) == len(tokens) and tokens else None,
            prompt_logprobs=event.prompt_logprobs,
            prompt_top=event.prompt_top,
            features=event.features,
            error=event.error,
        )
        self._room.release()
        with self._changed:
            self._left -= 1
            done = len(self._requests) - self._left
            self._changed.notify_all()
        if self._progress is not None:
            self._progress(done, len(self._requests))
