"""Notices that an adapter is about to change: empty keys that a gateway lists once a second. A hint: the log is truth.

t/<tenant>/dirty/<ulid>-<adapter>-<tx>      written before the commit, so a reader looks for a while
"""

from __future__ import annotations

from collections.abc import Callable

from registry.store import Store, create_surely
from registry.ulid import ulid

SKEW_S = 60.0
"""A writer's clock may be this far behind the reader's."""
_ULID = 26
_TX = 16


def announce(store: Store, tenant: str, adapter: str, tx: str, now: float) -> None:
    create_surely(store, f"t/{tenant}/dirty/{ulid(now)}-{adapter}-{tx}", b"")


class Notices:
    """What was announced in one tenant since this reader began to look."""

    def __init__(self, store: Store, tenant: str, clock: Callable[[], float]) -> None:
        self._store = store
        self._prefix = f"t/{tenant}/dirty/"
        self._clock = clock
        self._seen: set[str] = set()

    def fresh(self) -> set[str]:
        """Adapters announced since the last call; one LIST of the latest minute. The first call gives that minute's."""
        since = self._prefix + ulid(self._clock() - SKEW_S)[:10]
        listed = set(self._store.list(self._prefix, since))
        fresh, self._seen = listed - self._seen, listed
        return {key.removeprefix(self._prefix)[_ULID + 1 : -(_TX + 1)] for key in fresh}
