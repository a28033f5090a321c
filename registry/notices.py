"""Notices that an adapter is about to change: empty keys, written before every commit. Knows no log and no index.

    t/<tenant>/dirty/<ulid>-<adapter>-<tx>

Gateways list the latest minute of them once a second. A listing of all adapters lists them all, and trusts its index
only for adapters without one; so no writer may commit without, and only who knows that the index covers the
transaction, or that it never took place, may take one away (ADR 0015).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from registry.errors import Conflict, Invalid, LorimerError, NotFound, Refused
from registry.store import Store, create_surely
from registry.ulid import time_of, ulid

SKEW_S = 60.0
"""A writer's clock may be this far behind the reader's."""
_NAME = re.compile(r"([0-9A-HJKMNP-TV-Z]{26})-([a-z0-9][a-z0-9._-]{0,63})-([0-9a-f]{16})")


@dataclass(frozen=True)
class Notice:
    """Transaction `tx` was about to change `adapter`. `time` is by the clock of whoever wrote it."""

    name: str
    """The last part of the key."""
    adapter: str
    tx: str

    @property
    def time(self) -> float:
        return time_of(self.name)


def announce(store: Store, tenant: str, adapter: str, tx: str, now: float) -> Notice:
    notice = Notice(f"{ulid(now)}-{adapter}-{tx}", adapter, tx)
    assert _NAME.fullmatch(notice.name), "a notice nobody can read"
    create_surely(store, _folder(tenant) + notice.name, b"")
    return notice


@contextmanager
def announced(store: Store, tenant: str, adapter: str, tx: str, now: float) -> Iterator[Notice]:
    """Announce what the body commits. A commit that was decided against is taken back; one in doubt stays announced."""
    notice = announce(store, tenant, adapter, tx, now)
    try:
        yield notice
    except (Conflict, Invalid, NotFound, Refused):
        with suppress(LorimerError):
            withdraw(store, tenant, notice)
        raise


def standing(store: Store, tenant: str) -> set[Notice]:
    """Every notice there is."""
    folder = _folder(tenant)
    return _read(folder, store.list(folder))


def withdraw(store: Store, tenant: str, notice: Notice) -> None:
    store.delete(_folder(tenant) + notice.name)


class Notices:
    """What was announced in one tenant since this reader began to look."""

    def __init__(self, store: Store, tenant: str, clock: Callable[[], float]) -> None:
        self._store = store
        self._folder = _folder(tenant)
        self._clock = clock
        self._seen: set[str] = set()

    def fresh(self) -> set[str]:
        """Adapters announced since the last call; one LIST of the latest minute. The first call gives that minute's."""
        since = self._folder + ulid(self._clock() - SKEW_S)[:10]
        listed = set(self._store.list(self._folder, since))
        fresh, self._seen = listed - self._seen, listed
        return {notice.adapter for notice in _read(self._folder, fresh)}


def _read(folder: str, keys: Iterable[str]) -> set[Notice]:
    """What is no notice is passed over: nothing of ours wrote it."""
    found = (_NAME.fullmatch(key.removeprefix(folder)) for key in keys)
    return {Notice(match[0], match[2], match[3]) for match in found if match is not None}


def _folder(tenant: str) -> str:
    return f"t/{tenant}/dirty/"
