"""An adapter's log, read: the fold that turns its operations into versions, aliases and policy. Pure.

What each operation means beyond a line is told where its noun lives: aliases, reviews, sharing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from registry.aliases import MAX_HISTORY, AliasMove, earlier_standings, in_words, moved, pick, same, standing
from registry.errors import Conflict, NotFound, Refused
from registry.log import Event
from registry.manifest import Manifest
from registry.names import Alias, Digest, Number, Selector, parse_selector
from registry.ops import Abort, Delete, Grant, MoveAlias, Op, Publish, Quarantine, Review, SetPolicy, SetRules
from registry.reviews import Verdict, fold_review
from registry.rules import Rules
from registry.sharing import fold_grant

FOLD = 2
"""Goes up whenever the same events fold to another state, so that no checkpoint of an older fold is believed."""
FULL_DIGEST = len("sha256:") + 64

Expected = str | Mapping[str, float] | msgspec.UnsetType | None
"""What an alias must hold: one version, several with weights, nothing (None), or whatever it holds (UNSET)."""


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """Immutable bytes with a number. `digest` is its identity everywhere; `locations` is where the blobs lie."""

    tenant: str
    adapter: str
    number: int
    digest: str
    manifest: Manifest
    locations: dict[str, str]
    published_at: float
    signers: tuple[str, ...] = ()
    """The keys that signed its publication."""

    @property
    def name(self) -> str:
        return f"{self.adapter}@v{self.number}"

    def blob_key(self, sha256: str) -> str:
        return f"{adapter_prefix(self.tenant, self.adapter)}/blobs/{sha256}.{self.locations[sha256]}"


class Tombstone(msgspec.Struct, frozen=True, kw_only=True):
    """A deleted version whose blobs nobody has collected yet."""

    version: Version
    time: float
    actor: str
    reason: str


class Violation(msgspec.Struct, frozen=True, kw_only=True):
    """A committed event that broke the rules in force, and so changed nothing."""

    n: int
    tx: str
    actor: str
    time: float
    rule: str


class AdapterState(msgspec.Struct, frozen=True, kw_only=True):
    """The fold of one adapter's log. `alias_history` keeps the latest moves; the log keeps them all."""

    tenant: str
    adapter: str
    versions: tuple[Version, ...] = ()
    aliases: dict[str, str] = {}
    policy: dict[str, Any] = {}
    alias_history: tuple[AliasMove, ...] = ()
    splits: dict[str, dict[str, float]] = {}
    """Aliases that stand at several versions: digest -> weight. `aliases` holds the heaviest."""
    deleted: tuple[Tombstone, ...] = ()
    aborted: tuple[str, ...] = ()
    """Transactions that may not commit any more, nor lend their blobs to a new version."""
    quarantined: dict[str, str] = {}
    """Digest -> why."""
    reviews: dict[str, tuple[Verdict, ...]] = {}
    grants: dict[str, tuple[str, ...]] = {}
    """Tenant -> the selectors it may read."""
    rules: Rules | None = None
    violations: tuple[Violation, ...] = ()
    next_version: int = 1
    created_at: float = 0.0
    updated_at: float = 0.0

    def find(self, digest: str) -> Version | None:
        return next((version for version in self.versions if version.digest == digest), None)

    def select(self, selector: Selector) -> Version:
        """The one live version meant by a selector; NotFound names what there is."""
        if isinstance(selector, Alias):
            return self._aliased(selector.name)
        if isinstance(selector, Number):
            found = [version for version in self.versions if version.number == selector.n]
        else:
            found = [version for version in self.versions if version.digest.startswith(str(selector))]
        if len(found) > 1:
            raise NotFound(f"{selector} means several versions of {self.adapter}", hint="give more digits")
        if not found:
            hint = "deleted" if isinstance(selector, Number) and selector.n < self.next_version else self._hint()
            raise NotFound(f"adapter {self.adapter} has no version {selector}", hint=hint)
        return found[0]

    def blobs(self) -> set[tuple[str, str]]:
        """(sha256, tx) of every blob that a live version needs."""
        return {blob for version in self.versions for blob in version.locations.items()}

    def aliases_of(self, digest: str) -> list[str]:
        return sorted(alias for alias in self.aliases if digest in self.standing(alias))

    def children_of(self, digest: str) -> list[Version]:
        """Live versions of this adapter that were made from this one."""
        return [
            each for each in self.versions if each.manifest.parent is not None and each.manifest.parent.digest == digest
        ]

    def standing(self, alias: str) -> dict[str, float]:
        """Every version an alias stands at, with its weight; empty when it is not set."""
        return standing(self.aliases, self.splits, alias)

    def check_alias(self, alias: str, expect: Expected) -> None:
        """Conflict, carrying what is there, unless the alias holds what the caller believes."""
        if isinstance(expect, msgspec.UnsetType):
            return
        believed = {expect: 1.0} if isinstance(expect, str) else dict(expect or {})
        believed = {self.digest_of(each): weight for each, weight in believed.items()}
        actual = self.standing(alias)
        if not same(actual, believed):
            raise Conflict(
                f"{self.adapter}@{alias} is {in_words(actual)}, not {in_words(believed)}",
                hint="somebody moved it first; look again and decide anew",
                actual=actual if len(actual) > 1 else next(iter(actual), None),
            )

    def digest_of(self, text: str) -> str:
        """A whole digest as it is; anything else names a live version."""
        return text if len(text) == FULL_DIGEST else self.select(parse_selector(text)).digest

    def rollback_targets(self, alias: str) -> dict[str, float]:
        """Where the alias stood before; what is deleted or quarantined since is passed over."""
        current = self.standing(alias)
        for targets in earlier_standings(self.alias_history, alias):
            fit = all(self.find(digest) and digest not in self.quarantined for digest in targets)
            if targets and fit and not same(targets, current):
                return targets
        raise NotFound(f"{self.adapter}@{alias} has no earlier version to roll back to")

    def servable(self, selector: Selector, *, draw: str | None = None) -> Version:
        """As `select`; a quarantined version only for those who give its whole digest.

        `draw` picks among an alias's versions by weight, the same one for the same draw; None means the heaviest.
        """
        version = self.select(selector if draw is None else self._drawn(selector, draw))
        if version.digest in self.quarantined and str(selector) != version.digest:
            raise Refused(
                f"{version.name} is quarantined: {self.quarantined[version.digest] or 'no reason given'}",
                hint=f"roll back, or ask for {self.adapter}@{version.digest}",
            )
        return version

    def _drawn(self, selector: Selector, draw: str) -> Selector:
        """One version of a split alias; everything else means what it says."""
        split = self.splits.get(selector.name) if isinstance(selector, Alias) else None
        if not split:
            return selector
        place = f"{self.tenant}/{self.adapter}@{selector}"
        return Digest(pick(split, f"{place}\0{draw}").removeprefix("sha256:"))

    def _aliased(self, alias: str) -> Version:
        if (digest := self.aliases.get(alias)) is None:
            raise NotFound(f"adapter {self.adapter} has no alias {alias!r}", hint=self._hint())
        if (version := self.find(digest)) is None:  # no façade writes that; another program might
            raise NotFound(f"{self.adapter}@{alias} stands at {digest[:19]}, which is no version", hint=self._hint())
        return version

    def _hint(self) -> str:
        names = [*sorted(self.aliases), *(f"v{version.number}" for version in self.versions[-5:])]
        return f"there is {', '.join(names)}" if names else "nothing is published yet"


def adapter_prefix(tenant: str, adapter: str) -> str:
    return f"t/{tenant}/a/{adapter}"


def fold(state: AdapterState, event: Event[Op]) -> AdapterState:
    """One event applied; total: a committed event is never refused."""
    for op in event.ops:
        state = _apply(state, event, op)
    if all(isinstance(op, Abort) for op in event.ops):  # an end of what never was: it makes and changes no adapter
        return state
    return msgspec.structs.replace(state, created_at=state.created_at or event.time, updated_at=event.time)


def after(state: AdapterState, ops: Sequence[Op]) -> AdapterState:
    """What `state` would be if these operations were committed next."""
    event: Event[Op] = Event(n=0, prev="", tx="", actor="", time=state.updated_at, ops=tuple(ops))
    for op in ops:
        state = _apply(state, event, op)
    return state


def annotate(state: AdapterState) -> dict[str, Any]:
    """What every adapter event repeats of the state after it."""
    return {"aliases": {alias: state.standing(alias) for alias in state.aliases}, "next_version": state.next_version}


def _apply(state: AdapterState, event: Event[Op], op: Op) -> AdapterState:
    replace = msgspec.structs.replace
    match op:
        case Publish():
            return _publish(state, event, op)
        case MoveAlias():
            return _move(state, event, op)
        case Delete():
            return _delete(state, event, op)
        case SetPolicy():
            return replace(state, policy=op.policy)
        case SetRules():
            return replace(state, rules=op.rules)
        case Abort():
            return _abort(state, op)
        case Quarantine():
            others = {digest: why for digest, why in state.quarantined.items() if digest != op.digest}
            return replace(state, quarantined=others if op.lifted else {**others, op.digest: op.reason})
        case Review():
            return replace(state, reviews=fold_review(state.reviews, event, op))
        case Grant():
            return replace(state, grants=fold_grant(state.grants, op))


def _publish(state: AdapterState, event: Event[Op], op: Publish) -> AdapterState:
    version = Version(
        tenant=state.tenant,
        adapter=state.adapter,
        number=state.next_version,
        digest=op.digest,
        manifest=op.manifest,
        locations=op.loc,
        published_at=event.time,
        signers=event.signers or (),
    )
    return msgspec.structs.replace(state, versions=(*state.versions, version), next_version=state.next_version + 1)


def _move(state: AdapterState, event: Event[Op], op: MoveAlias) -> AdapterState:
    move = moved(event, op, state.aliases.get(op.name))
    aliases = {alias: digest for alias, digest in state.aliases.items() if alias != op.name}
    splits = {alias: targets for alias, targets in state.splits.items() if alias != op.name}
    if move.digest is not None:
        aliases[op.name] = move.digest
    if len(op.to) > 1:
        splits[op.name] = op.to
    history = (*state.alias_history, move)[-MAX_HISTORY:]
    return msgspec.structs.replace(state, aliases=aliases, splits=splits, alias_history=history)


def _delete(state: AdapterState, event: Event[Op], op: Delete) -> AdapterState:
    kept = tuple(version for version in state.versions if version.digest != op.digest)
    gone = (
        Tombstone(version=version, time=event.time, actor=event.actor, reason=op.reason)
        for version in state.versions
        if version.digest == op.digest
    )
    return msgspec.structs.replace(state, versions=kept, deleted=(*state.deleted, *gone))


def _abort(state: AdapterState, op: Abort) -> AdapterState:
    """A collector's last word before it deletes: tombstones that hold no more blobs go."""
    if op.tx in state.aborted:
        return state
    aborted = (*state.aborted, op.tx)
    used = state.blobs()
    deleted = tuple(
        tombstone
        for tombstone in state.deleted
        if any(tx not in aborted for sha256, tx in tombstone.version.locations.items() if (sha256, tx) not in used)
    )
    return msgspec.structs.replace(state, aborted=aborted, deleted=deleted)
