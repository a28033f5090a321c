"""Many summaries in one object, written once. The index names the live ones; later rows replace earlier ones.

    <folder><n:020d>-<sha256>      rows that event n of the index may name

Event n of the index is the only one that may ever begin to name a segment of n. Once that event exists, a segment
that the index does not name never will be, and whoever finds it may delete it: no clock, no reference count.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from registry.canonical import sha256
from registry.errors import Corrupt
from registry.store import Store, create_surely
from registry.summary import AdapterSummary

GROWTH = 4
"""A segment is merged into the next when it holds at most this many times its rows."""
_LEVEL = 1
_DIGITS = 20


class Segment(msgspec.Struct, frozen=True):
    key: str
    rows: int


class Segments:
    """The segments of one tenant's index. Keeps the decoded rows of those that the newest index named."""

    def __init__(self, store: Store, folder: str) -> None:
        self._store = store
        self._folder = folder
        self._decoder = msgspec.json.Decoder(list[AdapterSummary])
        self._read: dict[str, list[AdapterSummary]] = {}

    def rows(self, segments: Sequence[Segment]) -> dict[str, AdapterSummary]:
        """All rows by adapter. NotFound when a segment is gone: the index has moved on."""
        read = self._read
        self._read = {each.key: read.get(each.key) or self._load(each.key) for each in segments}
        return {row.adapter: row for each in segments for row in self._read[each.key]}

    def extended(self, segments: Sequence[Segment], rows: Mapping[str, AdapterSummary], n: int) -> tuple[Segment, ...]:
        """Segments for event n of the index that hold `rows` over those there are; each is far larger than the next."""
        kept = list(segments)
        while kept and kept[-1].rows <= GROWTH * len(rows):
            rows = {row.adapter: row for row in self._load(kept.pop().key)} | dict(rows)
        return (*kept, self._write(rows.values(), n)) if rows else tuple(kept)

    def sweep(self, live: Iterable[Segment], n: int) -> None:
        """Delete what event n, and with it every earlier one, does not name."""
        named = {each.key for each in live}
        for key in [*self._store.list(self._folder)]:
            if int(key.removeprefix(self._folder)[:_DIGITS]) <= n and key not in named:
                self._store.delete(key)

    def _write(self, rows: Iterable[AdapterSummary], n: int) -> Segment:
        ordered = sorted(rows, key=lambda row: row.adapter)
        data = zlib.compress(msgspec.json.encode(ordered), _LEVEL)
        key = f"{self._folder}{n:0{_DIGITS}d}-{sha256(data)}"
        create_surely(self._store, key, data)
        return Segment(key, len(ordered))

    def _load(self, key: str) -> list[AdapterSummary]:
        data = self._store.get(key)
        try:
            if not key.endswith(sha256(data)):
                raise ValueError("its bytes do not have the sha256 in its name")
            return self._decoder.decode(zlib.decompress(data))
        except (ValueError, zlib.error) as error:
            raise Corrupt(f"{key} is damaged: {error}", hint="run `lorimer registry index --rebuild`") from error
