"""The checker: is an adapter's history one line that all its callers can have lived through?

Reads the events of the log and what every caller saw (`Call`), and folds with a model of its own, so that a mistake
in the registry's fold cannot hide itself. Knows no store.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal

import msgspec

from registry.log import Event
from registry.ops import Abort, Delete, MoveAlias, Op, Publish

Outcome = Literal["ok", "forbidden", "unknown"]
TAG = "call"


class Call(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What one caller asked and was told. One that never returned has no `ended`, and its outcome is unknown.

    A write leaves `id` in its event: as the tag of a published manifest or as the reason of a move or a deletion.
    A read was told `digest` for `alias`, or what `seen` events make.
    """

    id: str
    verb: str
    adapter: str
    started: float
    ended: float | None = None
    outcome: Outcome = "unknown"
    alias: str = ""
    digest: str | None = None
    seen: int | None = None
    said: str = ""
    """The error, for people."""

    @property
    def writes(self) -> bool:
        return self.verb not in ("read", "list", "collect", "compact")


@dataclass
class Line:
    """One adapter as its events have made it so far."""

    live: dict[str, dict[str, str]] = field(default_factory=dict)
    """Digest -> where its blobs lie."""
    aliases: dict[str, dict[str, float]] = field(default_factory=dict)
    aborted: set[str] = field(default_factory=set)
    txs: set[str] = field(default_factory=set)
    num_versions: int = 0

    def extend(self, event: Event[Op]) -> None:
        """Fold one event; AssertionError where no correct writer can have written it."""
        where = f"event {event.n} by {event.actor}"
        assert event.tx not in self.txs, f"{where}: transaction {event.tx} committed twice"
        assert event.tx not in self.aborted, f"{where}: transaction {event.tx} was aborted"
        self.txs.add(event.tx)
        for op in event.ops:
            self._apply(op, where)
        assert event.aliases == self.aliases, f"{where}: says {event.aliases}, is {self.aliases}"
        assert event.next_version == self.num_versions + 1, f"{where}: next version {event.next_version}"

    def blobs(self) -> set[tuple[str, str]]:
        return {blob for locations in self.live.values() for blob in locations.items()}

    def _apply(self, op: Op, where: str) -> None:
        match op:
            case Publish():
                assert op.digest not in self.live, f"{where}: {op.digest} published while live"
                gone = {blob for blob in op.loc.items() if blob[1] in self.aborted} - self.blobs()
                assert not gone, f"{where}: counts on {gone}, which may have been collected"
                self.live[op.digest] = op.loc
                self.num_versions += 1
            case MoveAlias():
                standing = self.aliases.pop(op.name, {})
                believed = {op.expect: 1.0} if isinstance(op.expect, str) else (op.expect or {})
                assert believed == standing, f"{where}: lost update of {op.name}: replaced {standing}, saw {believed}"
                assert set(op.to) <= set(self.live), f"{where}: {op.name} to a version that is not live"
                if op.to:
                    self.aliases[op.name] = op.to
            case Delete():
                held = [alias for alias, to in self.aliases.items() if op.digest in to]
                assert op.digest in self.live, f"{where}: deletes what is not live"
                assert not held, f"{where}: deletes what {held} stand at"
                del self.live[op.digest]
            case Abort():
                self.aborted.add(op.tx)
            case _:
                pass

    def heaviest(self, alias: str) -> str | None:
        to = self.aliases.get(alias, {})
        return min(to, key=lambda digest: (-to[digest], digest), default=None)


def check(events: Sequence[Event[Op]], calls: Iterable[Call]) -> Line:
    """AssertionError unless `events` are one linear history in which each call took effect at one moment of its own."""
    line, stood = Line(), [dict[str, str | None]()]
    for number, event in enumerate(events, 1):
        assert event.n == number, f"event {event.n} in slot {number}"
        line.extend(event)
        stood.append({alias: line.heaviest(alias) for alias in line.aliases})
    calls = list(calls)
    places = _places(events, calls)
    moment = _Moments(calls, places, len(events))
    for call in calls:
        earliest, latest = moment.after(call.started), moment.before(call.ended)
        if call.id in places:
            assert places[call.id] > earliest, f"{call} is event {places[call.id]}, but came after event {earliest}"
        elif call.seen is not None:
            assert earliest <= call.seen <= latest, f"{call} must have seen {earliest} to {latest} events"
        elif call.verb == "read" and call.outcome == "ok":
            told = {stood[n].get(call.alias) for n in range(earliest, latest + 1)}
            assert call.digest in told, f"{call}: between events {earliest} and {latest} it stood at {told}"
    return line


class _Moments:
    """What the times of acknowledged writes say of other times: which events were there, which were not yet."""

    def __init__(self, calls: Sequence[Call], places: dict[str, int], num_events: int) -> None:
        done = sorted(
            (call.ended, places[call.id])
            for call in calls
            if call.id in places and call.outcome == "ok" and call.ended is not None
        )
        begun = sorted((-call.started, places[call.id]) for call in calls if call.id in places)
        self._ended, self._started = [ended for ended, _ in done], [started for started, _ in begun]
        self._there = list(accumulate((n for _, n in done), max, initial=0))
        self._not_yet = list(accumulate((n for _, n in begun), min, initial=num_events + 1))

    def after(self, time: float) -> int:
        """The newest event that was surely there at `time`."""
        return self._there[bisect_left(self._ended, time)]

    def before(self, time: float | None) -> int:
        """The newest event that can have been there at `time`."""
        return self._not_yet[0 if time is None else bisect_left(self._started, -time)] - 1


def _places(events: Sequence[Event[Op]], calls: Sequence[Call]) -> dict[str, int]:
    """Which event each call made. What was acknowledged is there once; what was refused is not."""
    made: dict[str, list[int]] = {}
    for event in events:
        for mark in {_mark(op) for op in event.ops} - {""}:
            made.setdefault(mark, []).append(event.n)
    for call in calls:
        found = made.get(call.id, [])
        assert len(found) <= 1, f"{call} is in the log {len(found)} times: {found}"
        if call.writes and call.outcome == "ok":
            assert found, f"{call} was acknowledged and is not in the log"
        if call.outcome == "forbidden":
            assert not found, f"{call} was refused and is event {found}"
    return {mark: found[0] for mark, found in made.items()}


def _mark(op: Op) -> str:
    match op:
        case Publish():
            return op.manifest.tags.get(TAG, "")
        case MoveAlias() | Delete():
            return op.reason
        case _:
            return ""
