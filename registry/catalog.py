"""Every adapter of a tenant in one answer, out of an index in a few objects that anybody brings up to date.

    t/<tenant>/catalog/log/<n>.json       a Log; each event says the whole index
    t/<tenant>/catalog/seg/<n>-<sha256>   its rows

Every commit that was acknowledged before a list began is in it, however old the index is (ADR 0015).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from registry.access import ReadOnly
from registry.catalog_compaction import Compaction
from registry.catalog_reader import AdapterLog, CatalogReader, View
from registry.errors import LorimerError, Refused
from registry.store import Progress, Store
from registry.summary import EVERYTHING, AdapterSummary, Filter

INDEXED_FORMAT = 2
"""Programs that write an older registry do not announce every commit: nothing but the logs is believed there."""
REST_S = 60.0
"""A program that may not write does not try at every list."""


class Catalogued(Protocol):
    """What holds the adapters."""

    store: Store
    tenant: str
    clock: Callable[[], float]
    actor: str
    format: int

    def adapter_log(self, name: str) -> AdapterLog: ...

    def abort(self, name: str, tx: str, reason: str = "") -> object: ...


class Catalog:
    """The adapters of one tenant. Safe to share between threads."""

    def __init__(self, registry: Catalogued) -> None:
        self._registry = registry
        self._reader = CatalogReader(registry.store, registry.tenant, registry.adapter_log, registry.clock)
        self._compaction = Compaction(self._reader, registry.clock, registry.abort, registry.actor)
        self._resting_until = float("inf") if isinstance(registry.store, ReadOnly) else float("-inf")

    def entries(self, wanted: Filter = EVERYTHING) -> list[AdapterSummary]:
        """The adapters that `wanted` accepts, by name. Tidies up behind itself when others would pay for it."""
        view = self._look()
        if self._is_indexed and self._compaction.is_due(view) and self._registry.clock() >= self._resting_until:
            try:
                self._compaction.run(view)
            except LorimerError:  # the answer does not depend on it
                self._resting_until = self._registry.clock() + REST_S
        return sorted(filter(wanted.accepts, view.latest), key=lambda row: row.adapter)

    def compact(self) -> int:
        """Bring the index up to date and take away what it covers; how many rows changed."""
        self._check_indexed()
        view = self._reader.look()
        self._compaction.run(view)
        return len(view.changed)

    def tidy(self) -> None:
        """Compact, where there may be an index."""
        if self._is_indexed:
            self.compact()

    def rebuild(self, progress: Progress | None = None) -> int:
        """Make the index anew from nothing but the logs; how many adapters it holds."""
        self._check_indexed()
        return self._compaction.rebuild(progress)

    def _look(self) -> View:
        return self._reader.look() if self._is_indexed else self._reader.look_at_logs()

    def _check_indexed(self) -> None:
        if not self._is_indexed:
            raise Refused("the registry has a format without an index", hint="run `lorimer registry upgrade` first")

    @property
    def _is_indexed(self) -> bool:
        return self._registry.format >= INDEXED_FORMAT
