"""Opt-in request texts and the feedback on them, in the bucket, for retraining. Decides nothing about consent.

t/<tenant>/captures/<day>/<ulid>-<gateway>.jsonl.gz     lines: requests and feedback, joined by request id on reading
"""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from threading import Lock
from typing import Any

import msgspec

from registry.errors import Corrupt, Refused, Unavailable
from registry.names import check_name
from registry.store import Store, create_surely
from registry.ulid import ulid

FLUSH_RECORDS = 64
FLUSH_AFTER_S = 2.0
MAX_BUFFERED = 4096


class CaptureRecord(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="request"):
    request_id: str
    time: float
    session: str
    adapter: str
    digest: str
    messages: list[dict[str, Any]]
    response: str


class FeedbackRecord(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="feedback"):
    request_id: str
    time: float
    adapter: str
    correction: str | None = None
    rating: int | None = None
    """-1 or 1."""


class Captured(msgspec.Struct, frozen=True, kw_only=True):
    """A request with the latest feedback on it."""

    request_id: str
    time: float
    adapter: str
    digest: str
    messages: list[dict[str, Any]]
    response: str
    session: str = ""
    correction: str | None = None
    rating: int | None = None


class CaptureWriter:
    """Requests are buffered; feedback is durable when `feedback` returns, together with all buffered requests."""

    def __init__(self, store: Store, tenant: str, gateway_id: str, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._prefix = f"t/{check_name(tenant, 'tenant')}/captures"
        self._gateway_id = gateway_id
        self._clock = clock
        self._buffer: list[CaptureRecord] = []
        self._oldest = 0.0
        self._retry_at = 0.0
        self._lock = Lock()
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

    def flush(self) -> None:
        self._write([])

    def _write(self, feedback: list[FeedbackRecord]) -> None:
        with self._lock:
            requests, self._buffer = self._buffer, []
        if not requests and not feedback:
            return
        now = self._clock()
        lines = b"".join(msgspec.json.encode(record) + b"\n" for record in [*requests, *feedback])
        key = f"{self._prefix}/{_day(now)}/{ulid(now)}-{self._gateway_id}.jsonl.gz"
        try:
            create_surely(self._store, key, gzip.compress(lines, mtime=0))
        except BaseException:
            with self._lock:
                self._buffer = [*requests, *self._buffer]
            raise


def read_captures(store: Store, tenant: str, adapter: str, since: float = 0.0) -> list[Captured]:
    """Requests of one adapter from `since` on, oldest first, each with the latest correction and rating given."""
    requests: dict[str, CaptureRecord] = {}
    feedback: list[FeedbackRecord] = []
    for record in _records(store, f"t/{tenant}/captures/", since):
        if record.adapter != adapter:
            continue
        if isinstance(record, FeedbackRecord):
            feedback.append(record)
        elif record.time >= since:
            requests.setdefault(record.request_id, record)
    corrections: dict[str, str] = {}
    ratings: dict[str, int] = {}
    for note in sorted(feedback, key=lambda note: note.time):
        if note.correction is not None:
            corrections[note.request_id] = note.correction
        if note.rating is not None:
            ratings[note.request_id] = note.rating
    joined = [
        Captured(
            request_id=request.request_id,
            time=request.time,
            adapter=request.adapter,
            digest=request.digest,
            messages=request.messages,
            response=request.response,
            session=request.session,
            correction=corrections.get(request.request_id),
            rating=ratings.get(request.request_id),
        )
        for request in requests.values()
    ]
    return sorted(joined, key=lambda captured: (captured.time, captured.request_id))


def _records(store: Store, prefix: str, since: float) -> Iterator[CaptureRecord | FeedbackRecord]:
    decoder = msgspec.json.Decoder(CaptureRecord | FeedbackRecord)
    for key in store.list(prefix, start_after=f"{prefix}{_day(since)}"):
        try:
            for line in gzip.decompress(store.get(key)).splitlines():
                yield decoder.decode(line)
        except (OSError, EOFError, msgspec.DecodeError) as error:
            raise Corrupt(f"{key} is not readable: {error}") from error


def _day(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d")
