"""The registry's API keys as this gateway knows them: the log's tail is looked at once a second. Knows no HTTP.

So a key that is made, rotated or revoked anywhere counts here within about a second. While the store is away, what was
read last still counts, but not for ever: whoever cuts a gateway off from its store must not keep a revoked key alive.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from structlog.typing import FilteringBoundLogger

from registry.errors import LorimerError, Unavailable
from registry.keys import Key, KeyLog, KeyRing

POLL_S = 1.0
STALE_S = 60.0


class Keyring:
    """Owns one thread. `clock` is monotonic."""

    def __init__(
        self,
        keys: KeyLog,
        log: FilteringBoundLogger,
        *,
        poll_s: float = POLL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys = keys
        self._log = log
        self._poll_s = poll_s
        self._clock = clock
        self._ring = KeyRing()
        self._by_hash: dict[str, Key] = {}
        self._read_at = clock()
        self._failing = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gateway-keys", daemon=True)

    def start(self) -> None:
        """Read what there is, then follow it; Unavailable or Corrupt where the log cannot be read."""
        self._look()
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def is_used(self) -> bool:
        """Whether there ever was a key: revoking the last one opens nothing."""
        return bool(self._ring.keys)

    def find(self, hash: str) -> Key | None:
        """The key that has or had a secret with this hash. Unavailable when what is known here is too old."""
        if (age_s := self._clock() - self._read_at) > STALE_S:
            raise Unavailable(f"keys cannot be checked: their log was read last {age_s:.0f} s ago")
        return self._by_hash.get(hash)

    def _look(self) -> None:
        began_at = self._clock()
        ring = self._keys.read()
        if ring is not self._ring:
            self._by_hash = ring.by_hash()
            self._ring = ring
        self._read_at = began_at

    def _run(self) -> None:
        while not self._closing.wait(self._poll_s):
            try:
                self._look()
                self._failing = False
            except LorimerError as error:
                if not self._failing:
                    self._log.error("keys are not followed", error=str(error))
                self._failing = True
