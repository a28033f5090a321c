"""Publish: everything up to the commit is invisible, the commit is one event, a crash at any step leaves no half.

    notice -> blobs that no live version has -> size and hash read back -> the event (visible only now)

Blobs of a transaction without an event belong to nobody: a collector forbids the transaction, then deletes them. A
publisher that was too slow learns of it before it can commit, and uploads again under a new transaction. Of a large
blob that somebody began to upload, the next publisher sends what is missing, under the transaction of the first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from registry import bases, changes
from registry.adapter_config import CONFIG_FILE, read_adapter_config
from registry.changes import Change
from registry.errors import Conflict, Corrupt, Invalid, NotFound
from registry.ledger import Aborted, Ledger
from registry.manifest import BaseProfile, DatasetRecord, FileEntry, Manifest, Parent
from registry.notices import announced, withdraw
from registry.ops import Op, Publish
from registry.store import Progress
from registry.transfer import Meter, begun, upload
from registry.validation import check_adapter, check_folder
from registry.versions import AdapterState, Expected, Version, adapter_prefix

ATTEMPTS = 16
"""Only collectors without any grace can spoil more than one."""
HINT = "give `lorimer registry gc` a longer --grace"

Also = Callable[[str], Sequence[Change]]
_TX = re.compile(r"[0-9a-f]{16}")


class Described(TypedDict, total=False):
    """What a manifest says beyond the files: where the version comes from, and how good it is."""

    parent: Parent | None
    dataset: DatasetRecord | None
    trainer: Mapping[str, Any] | None
    metrics: Mapping[str, float] | None
    evidence: str | None
    trigger: str | None
    tags: Mapping[str, str] | None


def prepare(
    directory: Path,
    profile: BaseProfile | None,
    profiles: Callable[[], Sequence[BaseProfile]],
    described: Described,
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
        parent=described.get("parent"),
        dataset=described.get("dataset"),
        trainer=dict(described.get("trainer") or {}),
        metrics=dict(described.get("metrics") or {}),
        evidence=described.get("evidence"),
        trigger=described.get("trigger"),
        tags=dict(described.get("tags") or {}),
    )
    if manifest.evidence is not None and manifest.file(manifest.evidence) is None:
        raise Invalid(f"evidence {manifest.evidence!r} is not a file in {directory}", param="evidence")
    return manifest


def beside(
    digest: str,
    aliases: Mapping[str, Expected],
    policy: Mapping[str, Any] | None,
    reason: str,
    also: Also | None,
) -> list[Change]:
    """What belongs in the event that publishes `digest`; what is so already is not done again."""

    def settle(alias: str, expected: Expected) -> Change:
        moved = changes.move(alias, digest, expect=expected, reason=reason)
        return lambda state: [] if state.standing(alias) == {digest: 1.0} else moved(state)

    settled = [settle(alias, expected) for alias, expected in aliases.items()]
    decided = [] if policy is None else [changes.set_policy(policy)]
    return [*settled, *decided, *(also(digest) if also else ())]


@dataclass(frozen=True, kw_only=True)
class Publication:
    """One folder on its way to being a version of one adapter."""

    ledger: Ledger
    adapter: str
    directory: Path
    manifest: Manifest
    digest: str
    beside: tuple[Change, ...]
    progress: Progress | None

    def run(self) -> Version:
        log = self.ledger.adapter_log(self.adapter)
        tx, stored = log.new_tx(), dict[str, str]()
        for _ in range(ATTEMPTS):
            try:
                self._attempt(tx, stored)
            except Aborted:
                tx, stored = log.new_tx(), {}
            except _Gone:
                continue
            else:
                break
        else:
            raise Conflict(
                f"{self.adapter}: {ATTEMPTS} uploads were collected before they could be committed", hint=HINT
            )
        if (version := log.fold().find(self.digest)) is None:
            raise Conflict(f"{self.adapter}: the version just published was deleted by somebody else")
        return version

    def _attempt(self, tx: str, stored: dict[str, str]) -> None:
        """Store what no live version has, then commit; `stored` gains sha256s, each with the tx it lies under."""

        def publish(state: AdapterState) -> list[Op]:
            if state.find(self.digest) is not None:
                return []
            mine = {sha256: at for sha256, at in stored.items() if at not in state.aborted}
            there = mine | dict(state.blobs())
            loc = {entry.sha256: there.get(entry.sha256, tx) for entry in self.manifest.files}
            return [Publish(digest=self.digest, manifest=self.manifest, loc=loc)]

        def publish_stored(state: AdapterState) -> list[Op]:
            ops = publish(state)
            if self._missing(ops, tx, stored):
                raise _Gone
            return ops

        # what is refused, or a lost compare-and-swap, fails here, before anything is uploaded
        ledger, change = self.ledger, changes.together([publish, *self.beside])
        ops = ledger.adapter_log(self.adapter).rehearse(change, actor=ledger.actor)
        if not ops:
            return
        now = ledger.clock()
        with announced(ledger.store, ledger.tenant, self.adapter, tx, now) as notice:
            self._upload(self._missing(ops, tx, stored), tx, stored)
            asked = (publish_stored, *self.beside)
            if ledger.commit(self.adapter, *asked, tx=tx, announced_at=now, create=True) is None:
                withdraw(ledger.store, ledger.tenant, notice)

    def _missing(self, ops: Sequence[Op], tx: str, stored: Mapping[str, str]) -> list[FileEntry]:
        """The blobs that a publish counts on under our own transaction, and that nobody has stored yet."""
        counted = {sha256 for op in ops if isinstance(op, Publish) for sha256, at in op.loc.items() if at == tx}
        return [entry for sha256, entry in self._entries().items() if sha256 in counted and stored.get(sha256) != tx]

    def _upload(self, blobs: Sequence[FileEntry], tx: str, stored: dict[str, str]) -> None:
        """Each blob once: the commit must never name bytes that are not there."""
        ledger, meter = self.ledger, Meter(sum(entry.size for entry in blobs), self.progress, passes=2)
        aborted = ledger.adapter_log(self.adapter).fold().aborted
        if tx in aborted:
            raise Aborted(f"{self.adapter}: {tx} was given up")
        for entry in blobs:
            prefix = f"{adapter_prefix(ledger.tenant, self.adapter)}/blobs/{entry.sha256}."
            found = (key.removeprefix(prefix) for key in begun(ledger.store, prefix, entry.size))
            for at in (*(at for at in found if _TX.fullmatch(at) and at not in aborted), tx):
                with nullcontext() if at == tx else suppress(Corrupt):  # another may have left anything there
                    self._store(prefix + at, entry, meter)
                    stored[entry.sha256] = at
                    break

    def _store(self, key: str, entry: FileEntry, meter: Meter) -> None:
        try:
            upload(self.ledger.store, key, self.directory / entry.path, entry, meter)
        except NotFound as error:  # collected before it could be read back
            raise _Gone from error

    def _entries(self) -> dict[str, FileEntry]:
        return {entry.sha256: entry for entry in self.manifest.files}


class _Gone(Exception):
    """A blob that was counted on went away: it must be stored again."""
