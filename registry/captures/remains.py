"""Where else the words of forgotten requests are: rows of the datasets that versions were trained on. Removes nothing.

A dataset is named by its sha256 and a version names it, so neither can be changed. Retraining leaves such rows out;
to be rid of the rest, publish a version made without them, then delete the version and its dataset.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from registry.adapters import Registry
from registry.captures.erasures import Found
from registry.datasets import Datasets
from registry.errors import NotFound
from registry.versions import Version


class Remain(msgspec.Struct, frozen=True, kw_only=True):
    """So many rows of a dataset came from forgotten requests, and these versions were trained on it."""

    dataset: str
    versions: tuple[str, ...]
    rows: int


class _Row(msgspec.Struct):
    meta: dict[str, Any] = {}


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
