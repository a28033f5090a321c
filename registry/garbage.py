"""Which blobs of an adapter nothing needs, and what is to become of each. Pure: reads and deletes nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from registry.pins import Pin, holders
from registry.times import duration
from registry.versions import AdapterState, Tombstone

Blob = tuple[str, str]
"""(sha256, tx)"""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A version, or a blob that no live version needs: whether it goes, and why."""

    name: str
    goes: bool
    why: str
    size: int | None = None
    """Unknown where nothing but its key tells of a blob."""


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What a collector knows beside the log. `uploads`: when each announced transaction began."""

    now: float
    grace_s: float
    uploads: Mapping[str, float] = field(default_factory=dict)
    pins: Sequence[Pin] = ()


def judge(state: AdapterState, blobs: Collection[Blob], sight: Sight) -> list[Finding]:
    """One finding for each of `blobs` that no live version needs."""
    return [_finding(state, blob, sight) for blob in sorted({*blobs} - state.blobs())]


def _finding(state: AdapterState, blob: Blob, sight: Sight) -> Finding:
    sha256, tx = blob
    dead = [each for each in state.deleted if each.version.locations.get(sha256) == tx]
    verdicts = [_verdict(state, tombstone, sight) for tombstone in dead] or [_upload_verdict(state, tx, sight)]
    goes, why = next((verdict for verdict in verdicts if not verdict[0]), verdicts[0])
    sizes = [entry.size for each in dead for entry in each.version.manifest.files if entry.sha256 == sha256]
    return Finding(name=f"{sha256}.{tx}", goes=goes, why=why, size=sizes[0] if sizes else None)


def _verdict(state: AdapterState, tombstone: Tombstone, sight: Sight) -> tuple[bool, str]:
    version, age_s = tombstone.version, max(sight.now - tombstone.time, 0.0)
    reason = f" ({tombstone.reason})" if tombstone.reason else ""
    deleted = f"{version.name} was deleted {duration(age_s)} ago{reason}"
    if gateways := holders(sight.pins, state.adapter, version.digest):
        return False, f"{deleted}; {', '.join(gateways)} may still read it"
    if age_s < sight.grace_s:
        return False, f"{deleted}; kept for {duration(sight.grace_s)}"
    return True, deleted


def _upload_verdict(state: AdapterState, tx: str, sight: Sight) -> tuple[bool, str]:
    if tx in state.aborted:
        return True, "its upload was given up, or its version collected, before"
    if any(tx == violation.tx for violation in state.violations):
        return False, "evidence: an event that broke the rules published it"
    if tx not in sight.uploads:
        return True, "an upload that was never committed, and that nobody announces any more"
    age_s = max(sight.now - sight.uploads[tx], 0.0)
    if age_s < sight.grace_s:
        return False, f"an upload that began {duration(age_s)} ago; given {duration(sight.grace_s)}"
    return True, f"an upload that began {duration(age_s)} ago and never ended"
