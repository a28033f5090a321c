"""Takes what is captured and writes it in batches. Knows no policy: what comes here is redacted and may be kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock

from registry.captures.erasures import Erasures
from registry.captures.objects import CaptureObjects
from registry.captures.records import CaptureRecord, FeedbackRecord, Record
from registry.captures.sweep import Sweep
from registry.errors import LorimerError, Refused, Unavailable
from registry.store import Store

FLUSH_RECORDS = 64
FLUSH_AFTER_S = 2.0
MAX_BUFFERED = 4096
MAX_UNCHECKED = 1024


class CaptureWriter:
    """Requests are buffered; feedback is durable when `feedback` returns, together with all buffered requests.

    Whoever was asked to be forgotten while a batch waited here is taken out of it right after it is written.
    """

    def __init__(self, store: Store, tenant: str, gateway_id: str, clock: Callable[[], float] = time.time) -> None:
        self._objects = CaptureObjects(store, tenant)
        self._sweep = Sweep(self._objects, Erasures(store, tenant, clock))
        self._gateway_id = gateway_id
        self._clock = clock
        self._buffer: list[CaptureRecord] = []
        self._oldest = 0.0
        self._retry_at = 0.0
        self._unchecked: list[str] = []
        """Objects written here and not yet held against the erasures there are."""
        self._lock = Lock()
        self._checking = Lock()
        self.num_dropped = 0
        """Requests lost because the store stayed unreachable for longer than the buffer lasts."""

    def request(self, record: CaptureRecord) -> None:
        """Buffer; writes when 64 requests or the oldest of two seconds wait. Never raises for an absent store."""
        now = self._clock()
        with self._lock:
            if not self._buffer:
                self._oldest = now
            self._buffer.append(record)
            if len(self._buffer) > MAX_BUFFERED:
                self._buffer.pop(0)
                self.num_dropped += 1
            full = len(self._buffer) >= FLUSH_RECORDS or now - self._oldest >= FLUSH_AFTER_S
            due = full and now >= self._retry_at
        if due:
            try:
                self.flush()
            except (Unavailable, Refused):
                self._retry_at = now + FLUSH_AFTER_S  # the records stay in the buffer

    def feedback(self, record: FeedbackRecord) -> None:
        """Durable when it returns; Unavailable means it was not taken."""
        self._write([record])
        try:
            self._check()
        except LorimerError:  # it was taken; the next flush looks again
            return

    def flush(self) -> None:
        self._write([])
        self._check()

    def _write(self, feedback: list[FeedbackRecord]) -> None:
        with self._lock:
            requests, self._buffer = self._buffer, []
        if not requests and not feedback:
            return
        records: list[Record] = [*requests, *feedback]
        try:
            key = self._objects.create(records, self._clock(), self._gateway_id)
        except BaseException:
            with self._lock:
                self._buffer = [*requests, *self._buffer]
            raise
        with self._lock:
            self._unchecked = [*self._unchecked, key][-MAX_UNCHECKED:]

    def _check(self) -> None:
        with self._checking:
            with self._lock:
                unchecked = list(self._unchecked)
            if not unchecked:
                return
            self._sweep.take_out(unchecked)
            with self._lock:
                self._unchecked = [key for key in self._unchecked if key not in unchecked]
