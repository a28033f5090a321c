"""Who did what to a tenant through its gateways and key verbs, and when: one hash-chained log, read newest first.

An action is recorded before it is done, so nothing is done that is not on record; a failure is recorded after it, and
names its action. Knows nothing of what the actions mean. Holds no texts, no secrets and no user ids: whoever records
leaves them out.

    t/<tenant>/audit/log/<n:020d>.json
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import msgspec

from registry.checkpoints import Position
from registry.errors import Invalid
from registry.log import Event, Log
from registry.names import check_name
from registry.store import Store

MAX_RECORDS = 1000
"""Most records of one answer."""
PAGE = 64
SKEW_S = 60.0
"""Two gateways' clocks may differ by this much, and their records stand in the order in which they came."""


class Action(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="action"):
    """`action` is a noun and a verb, `alias.move`; `what` says on which things and how. The event's actor did it."""

    action: str
    what: dict[str, Any] = {}
    by: str = ""
    """The gateway or machine it was done through."""
    request_id: str = ""


class Failure(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="failure"):
    """Action number `of` was not done, or not wholly."""

    of: int
    error: str


Op = Action | Failure


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One action as it is told. `error` says why it was not done; without one it was done, if its process lived on."""

    n: int
    time: float
    actor: str
    action: str
    what: dict[str, Any]
    by: str
    request_id: str
    error: str = ""


class AuditLog:
    """One tenant's log, written by many gateways at once. Safe to share between threads."""

    def __init__(self, store: Store, tenant: str, by: str, clock: Callable[[], float] = time.time) -> None:
        self._by = by
        self._log: Log[Op, int] = Log(
            store,
            f"t/{check_name(tenant, 'tenant')}/audit",
            clock,
            op_type=Op,
            initial=0,
            apply=lambda num_actions, event: num_actions + sum(isinstance(op, Action) for op in event.ops),
        )

    def record(self, actor: str, action: str, what: dict[str, Any], request_id: str = "") -> int:
        """Durable when it returns the record's number; Unavailable: it may not be on record, so do not act."""
        op = Action(action=action, what=what, by=self._by, request_id=request_id)
        return self._log.append([op], actor=actor).n

    def failed(self, number: int, actor: str, error: str) -> None:
        """Add to an earlier record that its action was not done."""
        self._log.append([Failure(of=number, error=error)], actor=actor)

    def newest(
        self, limit: int = 100, *, since: float = 0.0, action: str = "", actor: str = "", before: int | None = None
    ) -> list[Record]:
        """The newest records that fit, newest first; `before` a record's number gives the page after it."""
        if not 1 <= limit <= MAX_RECORDS:
            raise Invalid(f"limit must lie between 1 and {MAX_RECORDS}", param="limit")
        found: list[Record] = []
        for record in self._backwards():
            if record.time < since - SKEW_S or len(found) == limit:
                break
            fits = action in ("", record.action) and actor in ("", record.actor) and record.time >= since
            if fits and (before is None or record.n < before):
                found.append(record)
        return found

    def verify(self) -> Position[int]:
        """Read everything from the first record on; Corrupt names what was altered or taken out."""
        return self._log.verify()

    def _backwards(self) -> Iterator[Record]:
        """Newest first; a failure always stands after its action, so it is known when the action is met."""
        errors: dict[int, str] = {}
        for event in self._events_backwards():
            for op in event.ops:
                if isinstance(op, Failure):
                    errors[op.of] = op.error
                else:
                    yield _record(event, op, errors.get(event.n, ""))

    def _events_backwards(self) -> Iterator[Event[Op]]:
        last = self._log.position().n
        while last:
            first = max(last - PAGE + 1, 1)
            yield from reversed([*islice(self._log.tail(first), last - first + 1)])
            last = first - 1


def _record(event: Event[Op], op: Action, error: str) -> Record:
    return Record(
        n=event.n,
        time=event.time,
        actor=event.actor,
        action=op.action,
        what=op.what,
        by=op.by,
        request_id=op.request_id,
        error=error,
    )
