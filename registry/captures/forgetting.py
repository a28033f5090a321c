"""Forgets a person: finds what they gave, writes down what it is, takes it out, and says how much it was.

Every step is on record before the next is taken, so that whoever comes after a crash, by hand or by a gateway's
housekeeping, goes on from there. Gateways that still hold records of the person take them out when they write them;
`tend` looks once more for those that died before they could.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from registry.captures.erasures import Counts, Erasure, Erasures, Found, rule_of
from registry.captures.objects import CaptureObjects, is_successor, written_at
from registry.captures.records import CaptureRecord, FeedbackRecord, Record
from registry.captures.rule import Rule, people_of
from registry.captures.sweep import Sweep, Taken
from registry.parallel import at_once
from registry.store import Store

ABANDONED_S = 300.0
"""Who asked for an erasure finishes it; a gateway finishes one that is this old."""
LATE_S = 86_400.0
"""For so long after an erasure, objects that appear are looked through."""
SKEW_S = 600.0


@dataclass
class Survey:
    """Where records are that must go."""

    keys: set[str] = field(default_factory=set)
    requests: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    """Person -> request id -> adapter."""
    feedback: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Request id -> objects with feedback on it."""

    def found(self, person: str) -> Found:
        requests = self.requests.get(person, {})
        return Found(request_ids=tuple(sorted(requests)), adapters=tuple(sorted(set(requests.values()))))


class Forgetting:
    """For one tenant. For one thread."""

    def __init__(self, store: Store, tenant: str, clock: Callable[[], float] = time.time) -> None:
        self.erasures = Erasures(store, tenant, clock)
        self._objects = CaptureObjects(store, tenant)
        self._sweep = Sweep(self._objects, self.erasures)
        self._clock = clock

    def forget(self, user: str, *, actor: str = "", reason: str = "") -> Erasure:
        """Take out everything this user gave until now; the erasure, done. It may be asked again at any time."""
        asked = self.erasures.ask(user, actor=actor, reason=reason)
        return self._finish([*self._abandoned(), asked])[-1]

    def tend(self) -> int:
        """Finish what others began, and take out what came late; how many records that were."""
        self._finish(self._abandoned())
        since = self._clock() - LATE_S
        recent = [each for each in self.erasures.standing() if each.is_done and each.time >= since]
        if not recent:
            return 0
        first = recent[0].time - SKEW_S
        late = [key for key in self._objects.listed() if written_at(key) >= first or is_successor(key)]
        return len(self._take_out(self._survey(late), recent).records)

    def _abandoned(self) -> list[Erasure]:
        before = self._clock() - ABANDONED_S
        return [each for each in self.erasures.standing() if not each.is_done and each.time <= before]

    def _finish(self, todo: list[Erasure]) -> list[Erasure]:
        """Go through all objects, then through those that appeared meanwhile, until none does."""
        if not todo:
            return []
        taken, seen = Taken(), set[str]()
        while fresh := [key for key in self._objects.listed() if key not in seen]:
            survey = self._survey(fresh)
            if not seen:
                todo = [self.erasures.note_found(each, survey.found(each.person)) for each in todo]
            more = self._take_out(survey, todo)
            taken = Taken(taken.records + more.records, taken.num_objects + more.num_objects)
            seen.update(fresh)
        return [self.erasures.note_done(each, self._counts(each, taken)) for each in todo]

    def _take_out(self, survey: Survey, erasures: Sequence[Erasure]) -> Taken:
        known = {request_id for each in erasures for request_id in self.erasures.found(each).request_ids}
        ids = known.union(*survey.requests.values())
        keys = survey.keys.union(*(survey.feedback[each] for each in ids if each in survey.feedback))
        return self._sweep.take_out(
            sorted(keys), lambda record: isinstance(record, FeedbackRecord) and record.request_id in ids
        )

    def _survey(self, keys: Iterable[str]) -> Survey:
        survey, rule = Survey(), rule_of(self.erasures.standing())
        listed = list(keys)
        for key, records in zip(listed, at_once(self._objects.read, listed), strict=True):
            for record in records:
                self._note(survey, rule, key, record)
        return survey

    def _note(self, survey: Survey, rule: Rule, key: str, record: Record) -> None:
        if isinstance(record, FeedbackRecord):
            survey.feedback[record.request_id].add(key)
        if not rule.covers(record, self.erasures.pseudonyms.of):
            return
        survey.keys.add(key)
        if isinstance(record, CaptureRecord):
            for person in people_of(record, self.erasures.pseudonyms.of):
                survey.requests[person][record.request_id] = record.adapter

    def _counts(self, erasure: Erasure, taken: Taken) -> Counts:
        """Records that were there twice count once."""
        rule = Rule(rule_of([erasure]).until, frozenset(self.erasures.found(erasure).request_ids))
        gone = [record for record in taken.records if rule.covers(record, self.erasures.pseudonyms.of)]
        return Counts(
            requests=len({record.request_id for record in gone if isinstance(record, CaptureRecord)}),
            feedback=len({(r.request_id, r.time, r.users) for r in gone if isinstance(r, FeedbackRecord)}),
            objects=taken.num_objects,
        )
