"""What the index of a tenant's adapters says, and what is newer than it. Writes nothing.

The index is derived and may be as old as it likes. What keeps a look fresh are the notices that precede every commit:
an adapter with one that the index does not cover is read from its own log. They are listed before the index is read,
never after (ADR 0015). Knows nothing of what an adapter holds beyond its summary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import msgspec

from registry.catalog_segments import Segment, Segments
from registry.errors import Corrupt, NotFound
from registry.log import Event, Log
from registry.notices import Notice, standing
from registry.ops import Op
from registry.parallel import at_once
from registry.store import Progress, Store
from registry.summary import AdapterSummary, summarise
from registry.versions import AdapterState

CHECKPOINT_EVERY = 8
"""An index is read more often than it is written."""

AdapterLog = Log[Op, AdapterState]


class Cover(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="cover"):
    """The whole index: its segments, and the notices still standing whose transactions its rows take into account."""

    segments: tuple[Segment, ...]
    covered: tuple[str, ...]


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """The index as event `n` says it. Before the first event there is none, and nothing is known."""

    n: int = 0
    segments: tuple[Segment, ...] = ()
    covered: frozenset[str] = frozenset()

    def covers(self, notice: Notice) -> bool:
        return notice.name in self.covered


@dataclass(frozen=True)
class Fresh:
    """What an adapter's own log says: its summary after `events` events."""

    events: int
    row: AdapterSummary | None


@dataclass(frozen=True)
class View:
    """One look at everything: `rows` of the index, and what is newer in the logs of adapters with open notices."""

    notices: frozenset[Notice]
    index: Index
    rows: Mapping[str, AdapterSummary]
    fresh: Mapping[str, Fresh]

    @cached_property
    def open(self) -> frozenset[Notice]:
        """Notices that the index does not cover."""
        return frozenset(notice for notice in self.notices if not self.index.covers(notice))

    @cached_property
    def changed(self) -> dict[str, AdapterSummary]:
        """Rows that the index does not have."""
        return {
            adapter: fresh.row
            for adapter, fresh in self.fresh.items()
            if fresh.row is not None and fresh.row != self.rows.get(adapter)
        }

    @property
    def latest(self) -> Iterable[AdapterSummary]:
        """Every adapter's row as of this look."""
        return ({**self.rows, **self.changed} if self.changed else self.rows).values()

    def indexed_events(self, adapter: str) -> int:
        """How many events of an adapter the index takes into account."""
        row = self.rows.get(adapter)
        return row.events if row is not None else 0


class CatalogReader:
    """Looks at all adapters of one tenant. Safe to share between threads."""

    def __init__(
        self, store: Store, tenant: str, open_log: Callable[[str], AdapterLog], clock: Callable[[], float]
    ) -> None:
        self.store = store
        self.tenant = tenant
        self.open_log = open_log
        self.segments = Segments(store, f"t/{tenant}/catalog/seg/")
        self.log: Log[Cover, Index] = Log(
            store,
            f"t/{tenant}/catalog",
            clock,
            op_type=Cover,
            initial=Index(),
            apply=_fold,
            checkpoint_every=CHECKPOINT_EVERY,
        )
        self._merged: tuple[tuple[Segment, ...], Mapping[str, AdapterSummary]] = ((), {})

    def look(self) -> View:
        """Notices first: one that is gone by now was covered by the index that is read next."""
        notices = frozenset(standing(self.store, self.tenant))
        index, rows = self._indexed()
        names = {notice.adapter for notice in notices if not index.covers(notice)}
        if index.n == 0:
            names |= set(self.store.folders(f"t/{self.tenant}/a/"))
        return View(notices, index, rows, self._read_logs(names, rows))

    def look_at_logs(self, progress: Progress | None = None) -> View:
        """The same without believing any row of the index: every log is read."""
        notices = frozenset(standing(self.store, self.tenant))
        index = self.log.position().state
        names = {*self.store.folders(f"t/{self.tenant}/a/"), *(notice.adapter for notice in notices)}
        return View(notices, msgspec.structs.replace(index, segments=()), {}, self._read_logs(names, {}, progress))

    def _indexed(self) -> tuple[Index, Mapping[str, AdapterSummary]]:
        """The newest index and its rows. A segment that is gone belonged to an older one: look again."""
        gone = -1
        while True:
            index = self.log.position().state
            try:
                return index, self._rows(index.segments)
            except NotFound as error:
                if index.n == gone:
                    hint = "run `lorimer registry index --rebuild`"
                    raise Corrupt(f"the index of tenant {self.tenant} misses a part: {error}", hint=hint) from error
                gone = index.n

    def _rows(self, segments: tuple[Segment, ...]) -> Mapping[str, AdapterSummary]:
        known, rows = self._merged
        if known != segments:
            rows = self.segments.rows(segments)
            self._merged = (segments, rows)
        return rows

    def _read_logs(
        self, names: Iterable[str], rows: Mapping[str, AdapterSummary], progress: Progress | None = None
    ) -> dict[str, Fresh]:
        ordered = sorted(names)
        found: dict[str, Fresh] = {}
        reads = at_once(lambda name: self._read_log(name, rows.get(name)), ordered)
        for name, fresh in zip(ordered, reads, strict=True):
            found[name] = fresh
            if progress is not None:
                progress(len(found), len(ordered))
        return found

    def _read_log(self, name: str, row: AdapterSummary | None) -> Fresh:
        log = self.open_log(name)
        if row is not None and not self.store.exists(log.slot(row.events + 1)):
            return Fresh(row.events, row)
        position = log.position()
        return Fresh(position.n, summarise(position.state, position.n))


def _fold(_: Index, event: Event[Cover]) -> Index:
    (op,) = event.ops
    return Index(n=event.n, segments=op.segments, covered=frozenset(op.covered))
