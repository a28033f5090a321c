"""On record: whose captures must go, without the person's name, and how far that is. Takes nothing out itself.

    t/<tenant>/erasures/<ulid>.<pseudonym>.asked     from now on, nobody reads what this person gave before
    t/<tenant>/erasures/<ulid>.<pseudonym>.found     the ids of the requests; before anything is taken out
    t/<tenant>/erasures/<ulid>.<pseudonym>.done      all of it is out; how much it was

A listing says all that readers need; the objects are read by who finishes an erasure or tells of it. They stay: a
backup that is restored is read under the same rule.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from registry.captures.pseudonyms import Pseudonyms
from registry.captures.rule import Rule
from registry.errors import Corrupt
from registry.names import check_name
from registry.parallel import at_once
from registry.store import Store, create_surely
from registry.ulid import time_of, ulid

MARGIN_S = 60.0
"""Other clocks may be this far ahead of the one that asks: what comes within it is forgotten too."""
State = Literal["asked", "found", "done"]
_NAME = re.compile(r"(?P<id>[0-9A-HJKMNP-TV-Z]{26})\.(?P<person>[0-9a-f]{32})\.(?P<state>asked|found|done)")


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """Which requests were the person's, and for which adapters. Ids are random: they name nobody."""

    request_ids: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What was taken out, and how many objects were written anew or deleted for it."""

    requests: int = 0
    feedback: int = 0
    objects: int = 0


@dataclass(frozen=True)
class Erasure:
    """One demand to forget a person."""

    id: str
    """A ULID."""
    person: str
    """A pseudonym."""
    states: Mapping[State, str] = field(default_factory=dict, compare=False)
    """How far it is; state -> the key that says so."""

    @property
    def time(self) -> float:
        return time_of(self.id)

    @property
    def is_done(self) -> bool:
        return "done" in self.states


class Erasures:
    """Of one tenant. Safe for threads."""

    def __init__(self, store: Store, tenant: str, clock: Callable[[], float] = time.time) -> None:
        self.pseudonyms = Pseudonyms(store, tenant)
        self._store = store
        self._clock = clock
        self._folder = f"t/{check_name(tenant, 'tenant')}/erasures/"
        self._found: dict[str, Found] = {}

    def ask(self, user: str, *, actor: str = "", reason: str = "") -> Erasure:
        """Nobody reads this user's captures any more, once this returns."""
        erasure = Erasure(ulid(self._clock()), self.pseudonyms.of(user))
        return self._note(erasure, "asked", {"actor": actor, "reason": reason})

    def note_found(self, erasure: Erasure, found: Found) -> Erasure:
        return self._note(erasure, "found", found)

    def note_done(self, erasure: Erasure, counts: Counts) -> Erasure:
        return self._note(erasure, "done", counts)

    def standing(self) -> list[Erasure]:
        """Every erasure there ever was, oldest first; one LIST."""
        erasures: dict[str, Erasure] = {}
        for key in self._store.list(self._folder):
            if (match := _NAME.fullmatch(key.removeprefix(self._folder))) is not None:
                erasure = erasures.get(match["id"]) or Erasure(match["id"], match["person"])
                state: State = match["state"]  # type: ignore[assignment]
                erasures[erasure.id] = Erasure(erasure.id, erasure.person, {**erasure.states, state: key})
        return [each for each in erasures.values() if "asked" in each.states]

    def rule(self) -> Rule:
        """What follows from them for readers: one LIST. It leaves in feedback on requests that are not there."""
        return rule_of(self.standing())

    def whole_rule(self) -> Rule:
        """What follows from them for who takes records out: it knows the requests that were found as well."""
        standing = self.standing()
        return Rule(rule_of(standing).until, self._ids(standing))

    def found(self, erasure: Erasure) -> Found:
        """Empty before it was looked for."""
        if (key := erasure.states.get("found")) is None:
            return Found()
        if erasure.id not in self._found:
            self._found[erasure.id] = self._read(key, Found)
        return self._found[erasure.id]

    def found_of(self, person: str) -> Found:
        """All that was ever found to be one person's."""
        found = [self.found(each) for each in self.standing() if each.person == person]
        return Found(
            request_ids=tuple(sorted({request_id for each in found for request_id in each.request_ids})),
            adapters=tuple(sorted({adapter for each in found for adapter in each.adapters})),
        )

    def counts(self, erasure: Erasure) -> Counts | None:
        """None before it is done."""
        key = erasure.states.get("done")
        return None if key is None else self._read(key, Counts)

    def request_ids(self) -> frozenset[str]:
        """Every request that was ever found to be somebody's who is forgotten."""
        return self._ids(self.standing())

    def _ids(self, erasures: list[Erasure]) -> frozenset[str]:
        return frozenset(each for found in at_once(self.found, erasures) for each in found.request_ids)

    def _note(self, erasure: Erasure, state: State, document: Any) -> Erasure:
        """The first to say so is believed: another who finishes the same erasure finds no more than is left."""
        key = f"{self._folder}{erasure.id}.{erasure.person}.{state}"
        create_surely(self._store, key, msgspec.json.encode(document))
        return Erasure(erasure.id, erasure.person, {**erasure.states, state: key})

    def _read(self, key: str, kind: type[Any]) -> Any:
        try:
            return msgspec.json.decode(self._store.get(key), type=kind)
        except msgspec.DecodeError as error:
            raise Corrupt(f"{key} is not readable: {error}", hint="restore it from a backup") from error


def rule_of(erasures: list[Erasure]) -> Rule:
    until: dict[str, float] = {}
    for erasure in erasures:
        until[erasure.person] = max(erasure.time + MARGIN_S, until.get(erasure.person, 0.0))
    return Rule(until)
