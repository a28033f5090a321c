"""The façade: publish, resolve, alias, roll back, delete and verify adapters of one tenant.

Knows logs and blobs; knows nothing of how an adapter is trained, evaluated or applied. One Registry may be shared
by any number of threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Unpack

import msgspec

from registry import bases, changes, publishing, verification
from registry.access import admitted
from registry.aliases import heaviest
from registry.catalog import Catalog
from registry.changes import Change, Targets
from registry.ledger import Ledger
from registry.log import Event
from registry.manifest import BaseProfile, Manifest, digest
from registry.marker import FORMAT, Marker, initialise, read_marker
from registry.names import Alias, ModelRef, Number, Selector, check_name, parse_ref
from registry.neighbours import Neighbours
from registry.ops import MoveAlias, Op
from registry.policy import Policy, read_policy
from registry.publishing import Also, Described
from registry.settings import Settings
from registry.store import Progress, Store, store_of
from registry.summary import EVERYTHING, AdapterSummary, Filter
from registry.trust import Trust, open_trust
from registry.versions import (
    AdapterState,
    Expected,
    Version,
)

__all__ = ["AdapterState", "AdapterSummary", "Registry", "Version", "open_registry"]

UNSET = msgspec.UNSET
HEARD_S = 5.0
"""A notice this old is renewed before the commit: who listens does so for a while only."""


class Registry(Ledger):
    """All adapters of one tenant in one store."""

    def __init__(
        self,
        store: Store,
        tenant: str = "default",
        clock: Callable[[], float] = time.time,
        actor: str | None = None,
        *,
        trust: Trust | None = None,
        format: int = FORMAT,
    ) -> None:
        super().__init__(store, tenant, clock, actor, trust=trust, format=format)
        self.catalog = Catalog(self)
        self._neighbours = Neighbours(self.tenant, self.of_tenant)

    def of_tenant(self, tenant: str) -> Registry:
        """Another tenant's adapters in the same store, for whoever may act for that one."""
        return Registry(self.store, tenant, self.clock, self.actor, trust=self.trust, format=self.format)

    def acting_as(self, actor: str) -> Registry:
        """The same registry, in whose events another actor is named."""
        other = copy(self)
        other.actor = actor
        return other

    def init(self, *, read_only: bool = False, writer: str | None = None) -> Marker:
        """Probe the store and create registry.json; a store that fails is Refused unless read-only."""
        return initialise(self.store, clock=self.clock, read_only=read_only, writer=writer)

    def register_base(self, profile: BaseProfile) -> BaseProfile:
        """Record what the base accepts; registering it again adds its names."""
        return bases.register(self.store, profile)

    def base_profile(self, weights_sha256: str) -> BaseProfile:
        return bases.read(self.store, weights_sha256)

    def bases(self) -> list[BaseProfile]:
        return bases.read_all(self.store)

    def publish(
        self,
        name: str,
        directory: Path,
        *,
        profile: BaseProfile | None = None,
        aliases: Mapping[str, Expected] | None = None,
        policy: Policy | Mapping[str, Any] | None = None,
        also: Also | None = None,
        reason: str = "",
        progress: Progress | None = None,
        **described: Unpack[Described],
    ) -> Version:
        """Validate, upload, commit; visible only at the commit. The same bytes published again are the same version.

        `aliases` moves these aliases to the new version in the same event; each value is the digest that alias
        must hold now (None: must not exist, UNSET: whatever it holds), else Conflict and nothing happens.
        `also` is given the new digest and names what else belongs in that event: canary weights, retirements.
        """
        check_name(name, "adapter")
        manifest = publishing.prepare(Path(directory), profile, self.bases, described)
        policy = None if policy is None else _policy_values(policy)
        beside = publishing.beside(digest(manifest), aliases or {}, policy, reason, also)
        return self.publish_as(name, directory, manifest, beside, progress)

    def publish_as(
        self,
        name: str,
        directory: Path,
        manifest: Manifest,
        beside: Sequence[Change] = (),
        progress: Progress | None = None,
    ) -> Version:
        """Upload and commit files that were validated before, under the very manifest that describes them."""
        publication = publishing.Publication(
            ledger=self,
            adapter=name,
            directory=Path(directory),
            manifest=manifest,
            digest=digest(manifest),
            beside=tuple(beside),
            progress=progress,
        )
        return publication.run()

    def resolve(self, ref: str | ModelRef, *, at: float | None = None) -> Version:
        """The version a reference means now, strongly fresh, or meant `at` a time. Refused if it is quarantined."""
        parsed = parse_ref(ref) if isinstance(ref, str) else ref
        state = self.reach(parsed, at=at)
        return state.servable(parsed.selector) if at is None else state.select(parsed.selector)

    def show(self, ref: str | ModelRef) -> Version:
        """As `resolve`, quarantined or not; a bare adapter name without the default alias means its newest version."""
        state, selector = self._meant(ref)
        return state.select(selector)

    def reach(self, ref: ModelRef, *, at: float | None = None) -> AdapterState:
        """What a reference looks into: this tenant's adapter, or as much of another's as is shared with this one."""
        if ref.tenant in (None, self.tenant):
            return self.state(ref.adapter, at=at)
        return self._neighbours.state(ref.tenant, ref.adapter, at=at)

    def list(self, wanted: Filter = EVERYTHING) -> Sequence[AdapterSummary]:
        """Adapters in a line each, by name; every commit acknowledged by now is in the answer."""
        return self.catalog.entries(wanted)

    def alias(self, name: str, alias: str, target: Targets, *, expect: Expected = UNSET, reason: str = "") -> Event[Op]:
        """Point `alias` to a version (`v2`, a digest, another alias), to several by weight, or to nothing.

        `expect` compares and swaps.
        """
        event = self.commit(name, changes.move(alias, target, expect=expect, reason=reason))
        assert event is not None, "every move is recorded"
        return event

    def rollback(self, name: str, alias: str = "prod", reason: str = "", *, expect: Expected = UNSET) -> Version:
        """Put `alias` back to where the log says it stood before; the version that now has most of its weight.

        `expect` compares first: with it, a rollback whose outcome is in doubt can be repeated without going further.
        """
        event = self.commit(name, changes.roll_back(alias, expect=expect, reason=reason))
        assert event is not None, "every move is recorded"
        (op,) = event.ops
        assert isinstance(op, MoveAlias)
        return self.show(f"{name}@{heaviest(op.to)}")

    def set_policy(self, name: str, policy: Policy | Mapping[str, Any]) -> Event[Op] | None:
        """Replace the adapter's policy; it may be set before anything is published."""
        return self.commit(check_name(name, "adapter"), changes.set_policy(_policy_values(policy)), create=True)

    def policy(self, name: str) -> Policy:
        return read_policy(self.state(name).policy)

    def delete(self, name: str, version: str, reason: str = "") -> Version:
        """Make a version unreachable; Refused while an alias stands at it or another version names it as parent."""
        found = changes.find(self.state(name), version)
        self.commit(name, changes.retire(found.digest, reason=reason))
        return found

    def quarantine(self, name: str, version: str, reason: str, *, lift: bool = False) -> Version:
        """Let nobody resolve a version except by its whole digest; `lift` ends that."""
        found = changes.find(self.state(name), version)
        self.commit(name, changes.quarantine(found.digest, reason=reason, lift=lift))
        return found

    def abort(self, name: str, tx: str, reason: str = "") -> Event[Op] | None:
        """Forbid `tx` to commit from now on; None when that is so already."""
        return self.commit(name, changes.abort([tx], reason=reason), create=True)

    def verify(self, name: str, progress: Progress | None = None) -> verification.Report:
        """Read and hash everything again; Corrupt names the object."""
        self.state(name)
        return verification.verify(self.store, self.adapter_log(name), progress)

    def pull(self, ref: str | ModelRef, directory: Path, progress: Progress | None = None) -> Version:
        """Fetch a version into a new directory, every file checked; it appears whole or not at all.

        A reference means what it means to `show`; a quarantined version must be named by its whole digest.
        """
        version = self.obtainable(ref)
        verification.fetch_into(self.store, version, Path(directory), progress)
        return version

    def obtainable(self, ref: str | ModelRef) -> Version:
        """The version whose bytes a reference may have: what it means to `show`, unless that is quarantined."""
        state, selector = self._meant(ref)
        return state.servable(selector)

    def _meant(self, ref: str | ModelRef) -> tuple[AdapterState, Selector]:
        parsed = parse_ref(ref) if isinstance(ref, str) else ref
        state = self.reach(parsed)
        bare = isinstance(ref, str) and "@" not in ref
        if bare and isinstance(parsed.selector, Alias) and parsed.selector.name not in state.aliases and state.versions:
            return state, Number(state.versions[-1].number)
        return state, parsed.selector


def open_registry(settings: Settings, *, actor: str | None = None) -> Registry:
    """The registry the settings name; NotFound when nothing was ever initialised there."""
    store = store_of(settings)
    marker = read_marker(store)
    return Registry(
        admitted(store, marker, settings.writer),
        settings.tenant,
        actor=actor,
        trust=open_trust(settings),
        format=marker.format,
    )


def _policy_values(policy: Policy | Mapping[str, Any]) -> dict[str, Any]:
    checked = policy if isinstance(policy, Policy) else read_policy(policy)
    values: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(checked))  # as the log will hold them
    return values
