"""The façade: publish, resolve, alias, roll back, delete and verify adapters of one tenant.

Knows logs and blobs; knows nothing of how an adapter is trained, evaluated or applied. One Registry may be shared
by any number of threads.
"""

from __future__ import annotations

import getpass
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import msgspec

from registry import bases, publishing, verification
from registry.aliases import heaviest
from registry.doctor import Marker, initialise, read_marker
from registry.errors import NotFound, Refused
from registry.log import Event, Log
from registry.manifest import BaseProfile, DatasetRecord, Parent, digest
from registry.names import Alias, ModelRef, check_alias, check_name, parse_ref, parse_selector
from registry.notices import announce
from registry.ops import Delete, MoveAlias, Op, SetPolicy, format_of
from registry.policy import Policy, read_policy
from registry.settings import Settings
from registry.store import Progress, ReadOnly, Store, open_store
from registry.trust import Trust, open_trust
from registry.versions import (
    AdapterState,
    AdapterSummary,
    Version,
    adapter_prefix,
    annotate,
    summarise,
)

__all__ = ["AdapterState", "AdapterSummary", "Registry", "Version", "open_registry"]

UNSET = msgspec.UNSET


class Registry:
    """All adapters of one tenant in one store."""

    def __init__(
        self,
        store: Store,
        tenant: str = "default",
        clock: Callable[[], float] = time.time,
        actor: str | None = None,
        trust: Trust | None = None,
    ) -> None:
        self.store = store
        self.tenant = check_name(tenant, "tenant")
        self.clock = clock
        self.actor = actor if actor is not None else default_actor()
        self.trust = trust or Trust()
        self._logs: dict[str, Log[Op, AdapterState]] = {}
        self._lock = Lock()

    def init(self, *, read_only: bool = False) -> Marker:
        """Probe the store and create registry.json; a store that fails is Refused unless read-only."""
        return initialise(self.store, clock=self.clock, read_only=read_only)

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
        parent: Parent | None = None,
        dataset: DatasetRecord | None = None,
        trainer: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        evidence: str | None = None,
        trigger: str | None = None,
        tags: Mapping[str, str] | None = None,
        aliases: Mapping[str, str | msgspec.UnsetType | None] | None = None,
        policy: Policy | Mapping[str, Any] | None = None,
        reason: str = "",
        progress: Progress | None = None,
    ) -> Version:
        """Validate, upload, commit; visible only at the commit. The same bytes published again are the same version.

        `aliases` moves these aliases to the new version in the same event; each value is the digest that alias
        must hold now (None: must not exist, UNSET: whatever it holds), else Conflict and nothing happens.
        """
        check_name(name, "adapter")
        manifest = publishing.prepare(
            Path(directory),
            profile=profile,
            profiles=self.bases,
            parent=parent,
            dataset=dataset,
            trainer=dict(trainer or {}),
            metrics=dict(metrics or {}),
            evidence=evidence,
            trigger=trigger,
            tags=dict(tags or {}),
        )
        log = self.adapter_log(name)
        publication = publishing.Publication(
            store=self.store,
            log=log,
            tenant=self.tenant,
            actor=self.actor,
            directory=Path(directory),
            manifest=manifest,
            digest=digest(manifest),
            tx=log.new_tx(),
            aliases={check_alias(alias): expected for alias, expected in (aliases or {}).items()},
            policy=None if policy is None else _policy_values(policy),
            reason=reason,
            progress=progress,
        )
        return publication.run(self.clock())

    def resolve(self, ref: str | ModelRef) -> Version:
        """The version a reference means now; strongly fresh."""
        parsed = parse_ref(ref) if isinstance(ref, str) else ref
        if parsed.tenant not in (None, self.tenant):
            raise NotFound(f"no adapter {parsed.adapter!r} in tenant {parsed.tenant!r}")
        return self.state(parsed.adapter).select(parsed.selector)

    def show(self, ref: str | ModelRef) -> Version:
        """As `resolve`; a bare adapter name without the default alias means its newest version."""
        parsed = parse_ref(ref) if isinstance(ref, str) else ref
        state = self.state(parsed.adapter)
        bare = isinstance(ref, str) and "@" not in ref
        if bare and isinstance(parsed.selector, Alias) and parsed.selector.name not in state.aliases and state.versions:
            return state.versions[-1]
        return self.resolve(parsed)

    def state(self, name: str) -> AdapterState:
        """Everything the log says of one adapter, now."""
        position = self.adapter_log(name).position()
        if position.n == 0:
            self._forget(name)
            raise NotFound(f"no adapter {name!r}", hint="`lorimer registry list` shows what there is")
        self.trust.check(position.state)
        return position.state

    def list(self) -> Sequence[AdapterSummary]:
        names = self.store.folders(f"t/{self.tenant}/a/")
        states = (self.adapter_log(name).fold() for name in names)
        return [summarise(state) for state in states if state.updated_at]

    def alias(
        self,
        name: str,
        alias: str,
        target: str | Version | None,
        *,
        expect: str | msgspec.UnsetType | None = UNSET,
        reason: str = "",
    ) -> Event[Op]:
        """Point `alias` to a version (`v2`, a digest, another alias), or to nothing. `expect` compares and swaps."""
        check_alias(alias)

        def decide(state: AdapterState) -> list[Op]:
            state.check_alias(alias, expect)
            digest = None if target is None else _target(state, target).digest
            to = {} if digest is None else {digest: 1.0}
            return [MoveAlias(name=alias, to=to, expect=state.aliases.get(alias), reason=reason)]

        return self._move(name, decide)

    def rollback(self, name: str, alias: str = "prod", reason: str = "") -> Version:
        """Put `alias` back to where the log says it stood before."""
        chosen: list[Version] = []

        def decide(state: AdapterState) -> list[Op]:
            targets = state.rollback_targets(alias)
            chosen[:] = [state.select(parse_selector(heaviest(targets) or ""))]
            return [MoveAlias(name=alias, to=targets, expect=state.aliases.get(alias), reason=reason, rollback=True)]

        self._move(name, decide)
        return chosen[0]

    def set_policy(self, name: str, policy: Policy | Mapping[str, Any]) -> Event[Op]:
        """Replace the adapter's policy; it may be set before anything is published."""
        check_name(name, "adapter")
        values = _policy_values(policy)
        return self._commit(name, lambda _: [SetPolicy(policy=values)])

    def policy(self, name: str) -> Policy:
        return read_policy(self.state(name).policy)

    def delete(self, name: str, version: str, reason: str = "") -> Version:
        """Make a version unreachable; Refused while an alias points to it or another version names it as parent."""
        self.state(name)
        deleted: list[Version] = []

        def decide(state: AdapterState) -> list[Op]:
            found = _target(state, version)
            deleted[:] = [found]
            if held := state.aliases_of(found.digest):
                raise Refused(f"{found.name} is aliased {', '.join(held)}", hint="move or remove the alias first")
            for child in state.versions:
                if child.manifest.parent is not None and child.manifest.parent.digest == found.digest:
                    raise Refused(f"{found.name} is the parent of {child.name}", hint="delete that one first")
            return [Delete(digest=found.digest, reason=reason)]

        self._commit(name, decide)
        return deleted[0]

    def log(self, name: str) -> Sequence[Event[Op]]:
        events = [*self.adapter_log(name).events()]
        if not events:
            self._forget(name)
            raise NotFound(f"no adapter {name!r}", hint="`lorimer registry list` shows what there is")
        return events

    def verify(self, name: str, progress: Progress | None = None) -> verification.Report:
        """Read and hash everything again; Corrupt names the object."""
        self.state(name)
        return verification.verify(self.store, self.adapter_log(name), progress)

    def pull(self, ref: str | ModelRef, directory: Path, progress: Progress | None = None) -> Version:
        """Fetch a version into a new directory, every file checked; it appears whole or not at all."""
        version = self.show(ref)
        verification.fetch_into(self.store, version, Path(directory), progress)
        return version

    def adapter_log(self, name: str) -> Log[Op, AdapterState]:
        check_name(name, "adapter")
        with self._lock:
            if name not in self._logs:
                prefix = adapter_prefix(self.tenant, name)
                self._logs[name] = Log(
                    self.store,
                    prefix,
                    self.clock,
                    op_type=Op,
                    initial=AdapterState(tenant=self.tenant, adapter=name),
                    apply=self.trust.judge.fold,
                    annotate=annotate,
                    format_of=format_of,
                    sign=self.trust.sign(prefix),
                    authenticate=self.trust.authenticate(prefix),
                    admit=self.trust.admit,
                    trust_checkpoints=not self.trust.roots,
                )
            return self._logs[name]

    def _move(self, name: str, decide: Callable[[AdapterState], Sequence[Op]]) -> Event[Op]:
        """Announce and commit; what cannot be decided now is neither."""
        self.state(name)
        self.adapter_log(name).rehearse(decide, actor=self.actor)
        tx = self.adapter_log(name).new_tx()
        announce(self.store, self.tenant, name, tx, self.clock())
        return self._commit(name, decide, tx)

    def _commit(self, name: str, decide: Callable[[AdapterState], Sequence[Op]], tx: str | None = None) -> Event[Op]:
        event = self.adapter_log(name).transact(decide, actor=self.actor, tx=tx)
        assert event is not None, "every decision here has an op"
        return event

    def _forget(self, name: str) -> None:
        """Names that do not exist must not fill the memory of a long-lived gateway."""
        with self._lock:
            self._logs.pop(name, None)


def open_registry(settings: Settings, *, actor: str | None = None) -> Registry:
    """The registry the settings name; NotFound when nothing was ever initialised there."""
    store = open_store(settings.store, s3_endpoint=settings.s3_endpoint)
    marker = read_marker(store)
    return Registry(
        ReadOnly(store) if marker.read_only else store, settings.tenant, actor=actor, trust=open_trust(settings)
    )


def default_actor() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def _target(state: AdapterState, target: str | Version) -> Version:
    return state.select(parse_selector(target.digest if isinstance(target, Version) else target))


def _policy_values(policy: Policy | Mapping[str, Any]) -> dict[str, Any]:
    checked = policy if isinstance(policy, Policy) else read_policy(policy)
    values: dict[str, Any] = msgspec.to_builtins(checked)
    return values
