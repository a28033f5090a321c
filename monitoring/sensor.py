"""Takes observations from a gateway and writes them to the bucket in batches, on its own thread.

`observe` never blocks and never fails: where the bucket has been away so long that the buffer is full, observations are
dropped and counted. What was accepted is retried until it is written, and `close` writes the rest. Knows nothing of
drift.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from threading import Event, Lock, Thread

import structlog

from monitoring.observation import Observation, encode
from registry.errors import LorimerError, Unavailable
from registry.store import Store, create_surely
from registry.ulid import ulid

MAX_BATCH = 512
MAX_BUFFERED = 16_384
CLOSE_ATTEMPTS = 5
RETRY_S = 0.5
HOUR_S = 3600

log = structlog.get_logger(__name__)


def observations_prefix(tenant: str) -> str:
    return f"t/{tenant}/obs/"


def hour_of(time_s: float) -> str:
    """The folder of an hour, UTC; sorts by time."""
    return time.strftime("%Y%m%d%H", time.gmtime(time_s))


class Sensor:
    """One per gateway process."""

    def __init__(
        self,
        store: Store,
        tenant: str,
        gateway_id: str,
        clock: Callable[[], float] = time.time,
        flush_s: float = 2.0,
        *,
        max_buffered: int = MAX_BUFFERED,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store = store
        self._prefix = observations_prefix(tenant)
        self._gateway_id = gateway_id
        self._clock = clock
        self._flush_s = flush_s
        self._max_buffered = max_buffered
        self._sleep = sleep
        self._buffer: deque[Observation] = deque()
        self._lock = Lock()
        self._writing = Lock()
        self._wake = Event()
        self._closed = False
        self._thread: Thread | None = None
        self.num_written = 0
        self.num_dropped = 0
        """Observations lost because the buffer was full or the sensor closed."""
        self.num_failed_writes = 0

    def observe(self, observation: Observation) -> bool:
        """Accept one observation, or drop and count it; cheap, from any thread."""
        with self._lock:
            if self._closed or len(self._buffer) >= self._max_buffered:
                self.num_dropped += 1
                return False
            self._buffer.append(observation)
            full = len(self._buffer) >= MAX_BATCH
            if self._thread is None:
                self._thread = Thread(target=self._run, name="sensor", daemon=True)
                self._thread.start()
        if full:
            self._wake.set()
        return True

    def flush(self) -> None:
        """Write everything accepted before this call; Unavailable when the store does not take it (it is kept)."""
        with self._writing:
            while batch := self._head():
                self._write(batch)
                with self._lock:
                    for _ in batch:
                        self._buffer.popleft()
                    self.num_written += len(batch)

    def close(self) -> None:
        """Stop accepting and write the rest; Unavailable, with the number lost, if the store stays away."""
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
        self._wake.set()
        if thread is not None:
            thread.join()
        for attempt in range(1, CLOSE_ATTEMPTS + 1):
            try:
                self.flush()
                break
            except LorimerError as error:
                if attempt == CLOSE_ATTEMPTS:
                    raise Unavailable(f"{len(self._buffer)} observations could not be written: {error}") from error
                self._sleep(RETRY_S * attempt)

    @property
    def num_buffered(self) -> int:
        return len(self._buffer)

    def _head(self) -> list[Observation]:
        with self._lock:
            return [self._buffer[i] for i in range(min(len(self._buffer), MAX_BATCH))]

    def _write(self, batch: list[Observation]) -> None:
        now = self._clock()
        key = f"{self._prefix}{hour_of(now)}/{ulid(now)}-{self._gateway_id}.safetensors"
        if not create_surely(self._store, key, encode(batch)):
            raise Unavailable(f"{key} exists already")

    def _run(self) -> None:
        while not self._closed:
            self._wake.wait(self._flush_s)
            self._wake.clear()
            try:
                self.flush()
            except LorimerError as error:
                self.num_failed_writes += 1
                log.warning("observations not written", buffered=len(self._buffer), error=str(error))
