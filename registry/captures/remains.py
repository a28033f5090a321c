"""Forgetting as who asks for it sees it: done, counted, and what remains that it cannot remove.

What remains are rows of the datasets that versions were trained on. A dataset is named by its sha256 and a version
names it, so neither can be changed. Retraining leaves such rows out; to be rid of the rest, publish a version made
without them, then delete the version and its dataset.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from registry.adapters import Registry
from registry.captures.erasures import Counts, Found
from registry.captures.forgetting import Forgetting
from registry.datasets import Datasets
from registry.errors import Invalid, NotFound
from registry.versions import Version


class Remain(msgspec.Struct, frozen=True, kw_only=True):
    """So many rows of a dataset came from forgotten requests, and these versions were trained on it."""

    dataset: str
    versions: tuple[str, ...]
    rows: int


class Forgotten(msgspec.Struct, frozen=True, kw_only=True):
    """What one erasure did. The person stands here under a pseudonym."""

    erasure: str
    person: str
    requests: int
    feedback: int
    objects: int
    """Written anew without the records, or deleted."""
    remains: list[Remain]


class _Row(msgspec.Struct):
    meta: dict[str, Any] = {}


def forget(registry: Registry, user: str, *, actor: str = "", reason: str = "") -> Forgotten:
    """Take out everything that a user gave until now. What is told at the end may be asked for again at any time."""
    if not user:
        raise Invalid("whom to forget? the user is empty", hint="give the id that requests carry", param="user")
    forgetting = Forgetting(registry.store, registry.tenant, registry.clock)
    erasure = forgetting.forget(user, actor=actor, reason=reason)
    counts = forgetting.erasures.counts(erasure) or Counts()
    return Forgotten(
        erasure=erasure.id,
        person=erasure.person,
        requests=counts.requests,
        feedback=counts.feedback,
        objects=counts.objects,
        remains=find_remains(registry, forgetting.erasures.found_of(erasure.person)),
    )


def find_remains(registry: Registry, found: Found) -> list[Remain]:
    """Looks at the datasets of every version of the adapters that were asked, deleted versions too."""
    if not found.request_ids:
        return []
    trained: dict[str, list[str]] = {}
    for version in _versions(registry, found.adapters):
        if version.manifest.dataset is not None:
            trained.setdefault(version.manifest.dataset.sha256, []).append(version.name)
    datasets, ids = Datasets(registry.store, registry.tenant), frozenset(found.request_ids)
    counted = {sha256: _count(datasets, sha256, ids) for sha256 in trained}
    return [
        Remain(dataset=datasets.uri(sha256), versions=tuple(trained[sha256]), rows=rows)
        for sha256, rows in counted.items()
        if rows
    ]


def _versions(registry: Registry, adapters: Iterable[str]) -> Iterable[Version]:
    for adapter in adapters:
        try:
            state = registry.state(adapter)
        except NotFound:
            continue
        yield from state.versions
        yield from (tombstone.version for tombstone in state.deleted)


def _count(datasets: Datasets, sha256: str, ids: frozenset[str]) -> int:
    decode = msgspec.json.Decoder(_Row).decode
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "dataset.jsonl"
        try:
            datasets.fetch(sha256, path)
        except NotFound:  # deleted by hand
            return 0
        with path.open("rb") as file:
            return sum(decode(line).meta.get("request_id") in ids for line in file if line.strip())
