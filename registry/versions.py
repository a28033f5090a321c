"""An adapter's log, read: its operations, and the fold that turns them into versions, aliases and policy. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from registry.errors import Conflict, NotFound
from registry.log import Event
from registry.manifest import Manifest
from registry.names import Alias, Number, Selector, parse_selector

MAX_HISTORY = 512
FULL_DIGEST = len("sha256:") + 64


class Publish(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="publish"):
    """A new version. Its blobs lie at `blobs/<sha256>.<loc[sha256]>`."""

    digest: str
    manifest: Manifest
    loc: dict[str, str]


class MoveAlias(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="alias", omit_defaults=True):
    """`to` maps digests to traffic weights; empty removes the alias. `expect` records what the writer replaced."""

    name: str
    to: dict[str, float]
    expect: str | None = None
    reason: str = ""
    rollback: bool = False


class Delete(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="delete"):
    digest: str
    reason: str = ""


class SetPolicy(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="policy"):
    policy: dict[str, Any]


Op = Publish | MoveAlias | Delete | SetPolicy


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """Immutable bytes with a number. `digest` is its identity everywhere; `locations` is where the blobs lie."""

    tenant: str
    adapter: str
    number: int
    digest: str
    manifest: Manifest
    locations: dict[str, str]
    published_at: float

    @property
    def name(self) -> str:
        return f"{self.adapter}@v{self.number}"

    def blob_key(self, sha256: str) -> str:
        return f"{adapter_prefix(self.tenant, self.adapter)}/blobs/{sha256}.{self.locations[sha256]}"


class AliasMove(msgspec.Struct, frozen=True, kw_only=True):
    n: int
    alias: str
    digest: str | None
    previous: str | None
    time: float
    actor: str
    reason: str
    rollback: bool


class AdapterState(msgspec.Struct, frozen=True, kw_only=True):
    """The fold of one adapter's log. `alias_history` keeps the latest moves; the log keeps them all."""

    tenant: str
    adapter: str
    versions: tuple[Version, ...] = ()
    aliases: dict[str, str] = {}
    policy: dict[str, Any] = {}
    alias_history: tuple[AliasMove, ...] = ()
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

    def aliases_of(self, digest: str) -> list[str]:
        return sorted(alias for alias, target in self.aliases.items() if target == digest)

    def check_alias(self, alias: str, expect: str | msgspec.UnsetType | None) -> None:
        """Conflict, carrying the actual digest, unless the alias holds what the caller believes."""
        actual = self.aliases.get(alias)
        if expect is msgspec.UNSET:
            return
        if isinstance(expect, str) and len(expect) != FULL_DIGEST:
            expect = self.select(parse_selector(expect)).digest
        if actual != expect:
            raise Conflict(
                f"{self.adapter}@{alias} is {actual or 'not set'}, not {expect or 'unset'}",
                hint="somebody moved it first; look again and decide anew",
                actual=actual,
            )

    def rollback_target(self, alias: str) -> Version:
        """Where the alias stood before its present target was put forward; deleted versions are passed over."""
        stack: list[str | None] = []
        for move in self.alias_history:
            if move.alias != alias:
                continue
            if move.rollback:
                while stack and stack[-1] != move.digest:
                    stack.pop()
            elif not stack or stack[-1] != move.digest:
                stack.append(move.digest)
        current = self.aliases.get(alias)
        for digest in reversed(stack[:-1]):
            version = self.find(digest) if digest is not None and digest != current else None
            if version is not None:
                return version
        raise NotFound(f"{self.adapter}@{alias} has no earlier version to roll back to")

    def _aliased(self, alias: str) -> Version:
        if (digest := self.aliases.get(alias)) is None:
            raise NotFound(f"adapter {self.adapter} has no alias {alias!r}", hint=self._hint())
        version = self.find(digest)
        assert version is not None, "a live alias points to a live version"
        return version

    def _hint(self) -> str:
        names = [*sorted(self.aliases), *(f"v{version.number}" for version in self.versions[-5:])]
        return f"there is {', '.join(names)}" if names else "nothing is published yet"


class AdapterSummary(msgspec.Struct, frozen=True, kw_only=True):
    adapter: str
    num_versions: int
    latest: int
    aliases: dict[str, int]
    """Alias -> version number."""
    base: str
    updated_at: float


def adapter_prefix(tenant: str, adapter: str) -> str:
    return f"t/{tenant}/a/{adapter}"


def fold(state: AdapterState, event: Event[Op]) -> AdapterState:
    """One event applied; total: a committed event is never refused."""
    if event.n == 1:
        state = msgspec.structs.replace(state, created_at=event.time)
    for op in event.ops:
        state = _apply(state, event, op)
    return msgspec.structs.replace(state, updated_at=event.time)


def annotate(state: AdapterState) -> dict[str, Any]:
    """What every adapter event repeats of the state after it."""
    return {
        "aliases": {alias: {digest: 1.0} for alias, digest in state.aliases.items()},
        "next_version": state.next_version,
    }


def _apply(state: AdapterState, event: Event[Op], op: Op) -> AdapterState:
    replace = msgspec.structs.replace
    match op:
        case Publish():
            version = Version(
                tenant=state.tenant,
                adapter=state.adapter,
                number=state.next_version,
                digest=op.digest,
                manifest=op.manifest,
                locations=op.loc,
                published_at=event.time,
            )
            return replace(state, versions=(*state.versions, version), next_version=state.next_version + 1)
        case MoveAlias():
            return _move(state, event, op)
        case Delete():
            return replace(state, versions=tuple(v for v in state.versions if v.digest != op.digest))
        case SetPolicy():
            return replace(state, policy=op.policy)


def _move(state: AdapterState, event: Event[Op], op: MoveAlias) -> AdapterState:
    target = next(iter(op.to), None)
    move = AliasMove(
        n=event.n,
        alias=op.name,
        digest=target,
        previous=state.aliases.get(op.name),
        time=event.time,
        actor=event.actor,
        reason=op.reason,
        rollback=op.rollback,
    )
    aliases = {alias: digest for alias, digest in state.aliases.items() if alias != op.name}
    if target is not None:
        aliases[op.name] = target
    history = (*state.alias_history, move)[-MAX_HISTORY:]
    return msgspec.structs.replace(state, aliases=aliases, alias_history=history)


def summarise(state: AdapterState) -> AdapterSummary:
    newest = state.versions[-1] if state.versions else None
    return AdapterSummary(
        adapter=state.adapter,
        num_versions=len(state.versions),
        latest=newest.number if newest else 0,
        aliases={alias: state.select(Alias(alias)).number for alias in sorted(state.aliases)},
        base=newest.manifest.base.id if newest else "",
        updated_at=state.updated_at,
    )


def describe(ops: Sequence[Op]) -> str:
    """One line for people: what an event did."""
    return "; ".join(_describe(op) for op in ops)


def _describe(op: Op) -> str:
    match op:
        case Publish():
            return f"publish {op.digest[:19]}"
        case MoveAlias():
            target = next(iter(op.to), "nothing")[:19]
            return f"{'roll back' if op.rollback else 'alias'} {op.name} -> {target}" + (
                f" ({op.reason})" if op.reason else ""
            )
        case Delete():
            return f"delete {op.digest[:19]}"
        case SetPolicy():
            return f"policy {', '.join(f'{key}={value}' for key, value in op.policy.items())}"
