"""Garbage collection without a clock on its safety path.

    list blobs -> fold -> abort(tx) of whatever is swept, one event -> delete

A blob that no live version needs can become needed only if its transaction publishes; once the abort is in the log, it
cannot, because whoever wins a later slot has folded it. Age says when to try, never whether it is safe. A crash between
abort and deletion leaves blobs whose transaction is aborted: the next run deletes them. Log slots are never deleted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from registry import changes, notices, retention
from registry.adapters import Registry
from registry.errors import Refused
from registry.garbage import Finding, Sight, judge
from registry.ops import Op
from registry.pins import Pins
from registry.store import Progress
from registry.versions import AdapterState, adapter_prefix

GRACE_S = 86_400.0
_BLOB = re.compile(r"([0-9a-f]{64})\.([0-9a-f]{16})")


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was done to one adapter, or would be."""

    adapter: str
    versions: tuple[Finding, ...] = ()
    blobs: tuple[Finding, ...] = ()
    refused: str = ""
    """Its rules forbid this; nothing was deleted."""


def collect(
    registry: Registry,
    names: Sequence[str] = (),
    *,
    grace_s: float = GRACE_S,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> list[Report]:
    """Apply each adapter's retention, then delete the blobs that nothing needs; all adapters, or those named.

    `grace_s`: how long a deleted version's bytes stay, and an upload may take before it is given up.
    """
    names = names or [*registry.store.folders(f"t/{registry.tenant}/a/")]
    pins = Pins(registry.store, registry.tenant, registry.clock)
    if not dry_run:
        pins.forget()
    sight = Sight(now=registry.clock(), grace_s=grace_s, pins=pins.standing())
    reports = []
    for done, name in enumerate(names, 1):
        reports.append(_Collection(registry, name, sight, dry_run).run())
        if progress is not None:
            progress(done, len(names))
    return reports


@dataclass(frozen=True)
class _Collection:
    """One adapter's turn."""

    registry: Registry
    name: str
    sight: Sight
    dry_run: bool

    def run(self) -> Report:
        try:
            return Report(adapter=self.name, versions=tuple(self._retire()), blobs=tuple(self._sweep()))
        except Refused as error:
            return Report(adapter=self.name, refused=str(error))

    def _retire(self) -> list[Finding]:
        """Where a retention is set: every version, and what it says of it."""
        state = self.registry.adapter_log(self.name).fold()
        if not (wanted := retention.read_retention(state.policy)):
            return []
        kept = retention.reasons(state, wanted, self.sight.now)
        if not self.dry_run and len(kept) < len(state.versions):
            self.registry.commit(self.name, retention.expire(self.sight.now))
        return [
            Finding(
                name=version.name,
                goes=version.digest not in kept,
                why=kept.get(version.digest, f"retention: {wanted}"),
                size=version.manifest.num_bytes,
            )
            for version in state.versions
        ]

    def _sweep(self) -> list[Finding]:
        folder = f"{adapter_prefix(self.registry.tenant, self.name)}/blobs/"
        names = (_BLOB.fullmatch(key.removeprefix(folder)) for key in self.registry.store.list(folder))
        blobs = {(name[1], name[2]) for name in names if name is not None}
        log, decided = self.registry.adapter_log(self.name), list[Finding]()
        if blobs <= log.fold().blobs():
            return []
        sight = replace(self.sight, uploads=self._uploads())  # read after the blobs: it tells of all that began before

        def fence(state: AdapterState) -> Sequence[Op]:
            decided[:] = judge(state, blobs, sight)
            txs = dict.fromkeys(finding.name.partition(".")[2] for finding in decided if finding.goes)
            return changes.abort(txs, reason="collected")(state)

        if self.dry_run:
            log.rehearse(fence, actor=self.registry.actor)
            return decided
        self.registry.commit(self.name, fence, create=True)
        for finding in decided:
            if finding.goes:
                self.registry.store.delete(folder + finding.name)
        return decided

    def _uploads(self) -> dict[str, float]:
        """When each transaction that is still announced began, by its writer's clock."""
        announced = notices.standing(self.registry.store, self.registry.tenant)
        return {notice.tx: notice.time for notice in announced if notice.adapter == self.name}
