"""Somebody who listens to a request's events."""

from __future__ import annotations

import threading
import time
from typing import Any

from serving.request import Event, Finished, Token

WAIT_S = 20


class Listener:
    """Keeps a request's events; `at_first_token()` may be told to do something."""

    def __init__(self, at_first_token: Any = None) -> None:
        self.events: list[Event] = []
        self.over = threading.Event()
        self._at_first_token = at_first_token

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Finished):
            self.over.set()
        elif len(self.events) == 1 and self._at_first_token:
            self._at_first_token()

    @property
    def finished(self) -> Finished:
        assert self.over.wait(WAIT_S), "the request never finished"
        last = self.events[-1]
        assert isinstance(last, Finished)
        return last

    @property
    def tokens(self) -> list[Token]:
        return [event for event in self.events if isinstance(event, Token)]


def wait_until(condition: Any) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)
