"""The threads that load adapters, apart from the step loop: few, gentle, and never waited for without end.

Torch's operators split their work over a pool of threads of the calling thread; a loader keeps to one, so that it takes
no second core from rows that are running, and the kernel lets it run behind them. Knows no adapter.
"""

from __future__ import annotations

import itertools
import logging
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import PriorityQueue

import torch

from registry.errors import Unavailable

NICENESS = 5
_CLOSING, URGENT, IDLE = 0, 1, 2

logger = logging.getLogger(__name__)
_Job = tuple[int, int, Callable[[], None] | None]


class Loaders:
    """Runs jobs, urgent ones first and else in order. A job tells its own outcome; it must not raise."""

    def __init__(self, count: int) -> None:
        self._jobs: PriorityQueue[_Job] = PriorityQueue()
        self._order = itertools.count()
        self._closed = False
        self._ready = threading.Barrier(count + 1)
        self._threads = [
            threading.Thread(target=self._run, name=f"adapter-loader-{number}", daemon=True) for number in range(count)
        ]
        computing_threads = torch.get_num_threads()
        for thread in self._threads:
            thread.start()
        self._ready.wait()
        torch.set_num_threads(computing_threads)  # a thread's setting is also the default of threads yet to come

    def submit(self, job: Callable[[], None], *, urgent: bool) -> None:
        if self._closed:
            raise Unavailable("the engine is shutting down")
        self._jobs.put((URGENT if urgent else IDLE, next(self._order), job))

    def close(self, timeout_s: float) -> None:
        """Start no further job. A job that hangs, in a store that does not answer, is left behind after `timeout_s`."""
        self._closed = True
        for _ in self._threads:
            self._jobs.put((_CLOSING, next(self._order), None))
        for thread in self._threads:
            thread.join(timeout_s)
            if thread.is_alive():
                logger.warning("%s does not end: its store does not answer", thread.name)

    def _run(self) -> None:
        torch.set_num_threads(1)
        torch.get_num_threads()  # the first question makes the setting this thread's own
        if sys.platform == "linux":
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        self._ready.wait()
        while True:
            _, _, job = self._jobs.get()
            if job is None:
                return
            try:
                job()
            except Exception:
                logger.exception("a loader's job raised")
            del job  # and with it the adapter, which may be evicted before the next job comes
