"""Brings the index up to date and takes away the notices it covers. Anybody may, any number at once.

A notice is covered once the index holds its adapter's row as of the transaction or later, or as of the abort that
forbids it. Whoever loses the race for the index's next event has changed nothing. Safety asks no clock; age only says
when a transaction that never came is worth aborting, and when gateways have surely read a notice (ADR 0015).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import islice

from registry.catalog_reader import CatalogReader, Cover, Index, View
from registry.errors import NotFound, Refused
from registry.notices import SKEW_S, Notice, standing, withdraw
from registry.ops import Abort
from registry.parallel import at_once
from registry.store import Progress

OVERLAY = 16
"""Changed adapters that a reader puts up with."""
STANDING = 64
"""Notices that a reader puts up with although they have nothing more to say."""
LINGER_S = 2 * SKEW_S
"""Gateways look at the latest minute of notices: a covered one stays for them."""
OVERDUE_S = 86_400.0
"""A transaction announced this long ago and never committed is aborted; uploads may take as long."""


class Compaction:
    """The work on one tenant's index. `abort(adapter, tx)` forbids a transaction in the adapter's log."""

    def __init__(
        self, reader: CatalogReader, clock: Callable[[], float], abort: Callable[[str, str], object], actor: str
    ) -> None:
        self._reader = reader
        self._clock = clock
        self._abort = abort
        self._actor = actor

    def is_due(self, view: View) -> bool:
        """Whether every reader pays for what nobody has put in order yet."""
        silent = {notice for notice in view.open if notice.adapter not in view.changed}
        lingering = sum(1 for notice in view.notices - silent if self._age(notice) > LINGER_S)
        return len(view.changed) > OVERLAY or lingering > STANDING or any(map(self._is_overdue, silent))

    def run(self, view: View) -> None:
        """Cover what `view` found, and sweep."""
        if self._abort_overdue(view):
            view = self._reader.look()
        self._cover(view)

    def rebuild(self, progress: Progress | None = None) -> int:
        """Make the index anew from nothing but the logs; how many adapters it holds."""
        while True:
            view = self._reader.look_at_logs(progress)
            if self._cover(view, whole=True):
                return len(view.changed)

    def _cover(self, view: View, *, whole: bool = False) -> bool:
        """False when somebody else wrote the index's next event."""
        notices = standing(self._reader.store, self._reader.tenant)  # after the logs were read, never before
        covered = {notice for notice in notices if view.index.covers(notice)}
        settled = self._settled(view, notices - covered)
        done = (settled or view.changed or whole) and self._commit(view, covered | settled)
        self._sweep(notices)
        return bool(done)

    def _settled(self, view: View, notices: Iterable[Notice]) -> set[Notice]:
        """Notices whose transaction was committed or aborted within this look."""
        by_adapter: dict[str, set[Notice]] = {}
        for notice in notices:
            if notice.adapter in view.fresh:
                by_adapter.setdefault(notice.adapter, set()).add(notice)
        return set().union(*at_once(lambda group: self._ended(view, *group), by_adapter.items()))

    def _ended(self, view: View, adapter: str, notices: set[Notice]) -> set[Notice]:
        """Those that what this look adds to the index has ended; for overdue ones all of the log is searched."""
        added = self._transactions(view, adapter, view.indexed_events(adapter))
        ended = {notice for notice in notices if notice.tx in added}
        if any(self._is_overdue(notice) for notice in notices - ended):
            logged = self._transactions(view, adapter, 0)
            ended = {notice for notice in notices if notice.tx in logged}
        return ended

    def _transactions(self, view: View, adapter: str, after: int) -> set[str]:
        """What was committed or aborted after event `after`, no further than this look read."""
        num_events = view.fresh[adapter].events - after
        events = [*islice(self._reader.open_log(adapter).tail(after + 1), num_events)] if num_events else []
        aborted = {op.tx for event in events for op in event.ops if isinstance(op, Abort)}
        return aborted | {event.tx for event in events}

    def _abort_overdue(self, view: View) -> bool:
        """Forbid what was announced long ago and is nowhere in the log; whether there was anything to forbid."""
        overdue = {notice for notice in view.open if self._is_overdue(notice)}
        absent = overdue - self._settled(view, overdue)
        aborted = 0
        for notice in absent:
            with suppress(Refused):  # the adapter's rules leave that to others
                self._abort(notice.adapter, notice.tx)
                aborted += 1
        return bool(aborted)

    def _commit(self, view: View, covered: set[Notice]) -> bool:
        n = view.index.n + 1
        try:
            segments = self._reader.segments.extended(view.index.segments, view.changed, n)
        except NotFound:  # a segment went away: the index has moved on
            return False
        op = Cover(segments=segments, covered=tuple(sorted(notice.name for notice in covered)))

        def decide(index: Index) -> list[Cover]:
            return [op] if index.n == view.index.n else []

        return self._reader.log.transact(decide, actor=self._actor) is not None

    def _sweep(self, notices: Iterable[Notice]) -> None:
        """Take away old notices that the newest index covers, and segments that it does not name."""
        index = self._reader.log.position().state
        store, tenant = self._reader.store, self._reader.tenant
        old = [notice for notice in notices if index.covers(notice) and self._age(notice) > LINGER_S]
        for _ in at_once(lambda notice: withdraw(store, tenant, notice), old):
            pass
        self._reader.segments.sweep(index.segments, index.n)

    def _is_overdue(self, notice: Notice) -> bool:
        return self._age(notice) > OVERDUE_S

    def _age(self, notice: Notice) -> float:
        return self._clock() - notice.time
