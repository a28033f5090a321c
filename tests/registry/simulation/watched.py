"""The truth of a simulated world: a store that knows what may never happen in it, and looks at every write."""

from __future__ import annotations

import re
from collections import defaultdict

import msgspec

from registry.canonical import sha256
from registry.log import Event
from registry.ops import Op, Publish
from tests.registry.linear import Line
from tests.registry.stores import MemoryStore

SLOT = re.compile(r"t/default/a/([^/]+)/log/(\d+)\.json")
BLOB = re.compile(r"t/default/a/([^/]+)/blobs/([0-9a-f]+)\.([0-9a-f]+)")

_DECODER: msgspec.json.Decoder[Event[Op]] = msgspec.json.Decoder(Event[Op])


class WatchedStore(MemoryStore):
    """AssertionError at the very write that breaks a promise: a lost slot, a live version without its blobs."""

    def __init__(self, data: dict[str, bytes]) -> None:
        super().__init__()
        self.events: dict[str, list[Event[Op]]] = defaultdict(list)
        self.lines: dict[str, Line] = defaultdict(Line)
        for key in sorted(data):
            self.create(key, data[key])

    def create(self, key: str, data: bytes) -> bool:
        created = super().create(key, data)
        if created and (slot := SLOT.fullmatch(key)):
            self._committed(slot[1], int(slot[2]), data)
        return created

    def put(self, key: str, data: bytes) -> None:
        assert key not in self.data or key.endswith(("/HEAD", "registry.json")), f"{key} was overwritten"
        super().put(key, data)

    def delete(self, key: str) -> None:
        assert "/log/" not in key, f"{key} was deleted"
        if blob := BLOB.fullmatch(key):
            needed = self.lines[blob[1]].blobs()
            assert (blob[2], blob[3]) not in needed, f"{key} was deleted, and a live version needs it"
        super().delete(key)

    def blobs(self, adapter: str) -> set[tuple[str, str]]:
        found = (BLOB.fullmatch(key) for key in self.data)
        return {(blob[2], blob[3]) for blob in found if blob and blob[1] == adapter}

    def _committed(self, adapter: str, n: int, data: bytes) -> None:
        event = _DECODER.decode(data)
        assert event.n == n == len(self.events[adapter]) + 1, f"{adapter}: event {event.n} in slot {n}"
        self.events[adapter].append(event)
        self.lines[adapter].extend(event)
        for op in event.ops:
            if isinstance(op, Publish):
                self._check_blobs(adapter, op)

    def _check_blobs(self, adapter: str, op: Publish) -> None:
        for entry in op.manifest.files:
            key = f"t/default/a/{adapter}/blobs/{entry.sha256}.{op.loc[entry.sha256]}"
            assert key in self.data, f"{adapter}: {op.digest} was committed without {key}"
            assert sha256(self.data[key]) == entry.sha256, f"{adapter}: {op.digest} was committed with a wrong {key}"
