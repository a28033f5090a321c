"""What a process may do to the store, as registry.json says: write, write alone, or only read."""

from __future__ import annotations

from pathlib import Path
from threading import Lock

from registry.errors import Refused
from registry.marker import Marker
from registry.store import Store
from registry.transfer import Uploader


def admitted(store: Store, marker: Marker, writer: str | None) -> Store:
    """The store as this process may use it; `writer` is the name it goes by."""
    if marker.read_only:
        return ReadOnly(store, "was initialised read-only", "see `lorimer registry doctor` for why")
    if marker.writer is None:
        return store
    if writer == marker.writer:
        return Alone(store)
    me = f"this process is {writer!r}" if writer else "this process has no name"
    hint = "one process at a time may set LORIMER_WRITER to that name"
    return ReadOnly(store, f"has {marker.writer!r} as its single writer, and {me}", hint)


class _Reading:
    """The reading half of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.url = store.url
        self.get, self.chunks, self.fetch = store.get, store.chunks, store.fetch
        self.exists, self.list, self.folders = store.exists, store.list, store.folders


class ReadOnly(_Reading):
    """A store that only reads; a write is Refused, with the reason."""

    def __init__(self, store: Store, reason: str, hint: str) -> None:
        super().__init__(store)
        self._refusal = (f"the registry at {store.url} {reason}", hint)

    def create(self, key: str, data: bytes) -> bool:
        raise self._refuse()

    def create_file(self, key: str, path: Path) -> bool:
        raise self._refuse()

    def put(self, key: str, data: bytes) -> None:
        raise self._refuse()

    def delete(self, key: str) -> None:
        raise self._refuse()

    def _refuse(self) -> Refused:
        message, hint = self._refusal
        return Refused(message, hint=hint)


class Alone(_Reading):
    """A store that cannot decide races, used by one process: its threads create one after the other."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.put, self.delete = store.put, store.delete
        if isinstance(store, Uploader):  # to keys that are the caller's alone, so nobody races
            self.upload, self.unfinished = store.upload, store.unfinished
        self._turn = Lock()

    def create(self, key: str, data: bytes) -> bool:
        with self._turn:
            return self._store.create(key, data)

    def create_file(self, key: str, path: Path) -> bool:
        with self._turn:
            return self._store.create_file(key, path)
