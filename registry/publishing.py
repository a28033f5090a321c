"""Publish: everything up to the commit is invisible, the commit is one event, a crash at any step leaves no half.

    dirty marker -> blobs -> size and hash read back -> the event (visible only now)

A rerun after a crash uploads again under a new tx; blobs of a tx without an event belong to nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from registry import bases
from registry.adapter_config import CONFIG_FILE, read_adapter_config
from registry.errors import Conflict, Invalid
from registry.log import Log
from registry.manifest import BaseProfile, DatasetRecord, Manifest, Parent
from registry.notices import announce
from registry.ops import MoveAlias, Op, Publish, SetPolicy
from registry.store import Progress, Store
from registry.transfer import Meter, upload
from registry.validation import check_adapter, check_folder
from registry.versions import AdapterState, Version, adapter_prefix


def prepare(
    directory: Path,
    *,
    profile: BaseProfile | None,
    profiles: Callable[[], Sequence[BaseProfile]],
    parent: Parent | None,
    dataset: DatasetRecord | None,
    trainer: dict[str, Any],
    metrics: dict[str, float],
    evidence: str | None,
    trigger: str | None,
    tags: dict[str, str],
) -> Manifest:
    """Validate the folder and describe it. Without a profile, the base is found by the config's base name."""
    files = check_folder(directory)
    if profile is None:
        profile = bases.choose(profiles(), read_adapter_config(directory / CONFIG_FILE).base_model_name_or_path)
    checked = check_adapter(directory, files, profile)
    manifest = Manifest(
        files=checked.files,
        method=checked.method,
        rank=checked.rank,
        alpha=checked.alpha,
        targets=checked.targets,
        base=profile.identity,
        parent=parent,
        dataset=dataset,
        trainer=trainer,
        metrics=metrics,
        evidence=evidence,
        trigger=trigger,
        tags=tags,
    )
    if evidence is not None and manifest.file(evidence) is None:
        raise Invalid(f"evidence {evidence!r} is not a file in {directory}", param="evidence")
    return manifest


@dataclass(frozen=True, kw_only=True)
class Publication:
    """One folder on its way to being a version of one adapter."""

    store: Store
    log: Log[Op, AdapterState]
    tenant: str
    actor: str
    directory: Path
    manifest: Manifest
    digest: str
    tx: str
    aliases: Mapping[str, str | msgspec.UnsetType | None]
    policy: dict[str, Any] | None
    reason: str
    progress: Progress | None

    def run(self, now: float) -> Version:
        state = self.log.fold()
        if self.log.rehearse(self._missing, actor=self.actor):  # what is refused or lost fails here, before any upload
            announce(self.store, self.tenant, state.adapter, self.tx, now)
        if state.find(self.digest) is None:
            self._upload(f"{adapter_prefix(self.tenant, state.adapter)}/blobs")
        self.log.transact(self._missing, actor=self.actor, tx=self.tx)
        version = self.log.fold().find(self.digest)
        if version is None:
            raise Conflict(f"{state.adapter}: the version just published was deleted by somebody else")
        return version

    def _missing(self, state: AdapterState) -> list[Op]:
        """The ops that give this state the version, aliases and policy wanted; none when it has them all."""
        ops: list[Op] = []
        if state.find(self.digest) is None:
            loc = {entry.sha256: self.tx for entry in self.manifest.files}
            ops.append(Publish(digest=self.digest, manifest=self.manifest, loc=loc))
        for alias, expected in self.aliases.items():
            current = state.aliases.get(alias)
            if current != self.digest:
                state.check_alias(alias, expected)
                ops.append(MoveAlias(name=alias, to={self.digest: 1.0}, expect=current, reason=self.reason))
        if self.policy is not None and state.policy != self.policy:
            ops.append(SetPolicy(policy=self.policy))
        return ops

    def _upload(self, prefix: str) -> None:
        """Each blob once: the commit must never name bytes that are not there."""
        blobs = {entry.sha256: entry for entry in self.manifest.files}.values()
        meter = Meter(sum(entry.size for entry in blobs), self.progress, passes=2)
        for entry in blobs:
            upload(self.store, f"{prefix}/{entry.sha256}.{self.tx}", self.directory / entry.path, entry, meter)
