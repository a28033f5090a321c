"""A candidate's files, and how they reach the registry: PEFT's two files, the dataset, the manifest. Judges nothing."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from safetensors.torch import load_file, save_file
from torch import Tensor

from registry.adapters import Registry, Version
from registry.canonical import canonical, sha256
from registry.datasets import Datasets
from registry.errors import NotFound
from registry.manifest import BaseProfile, DatasetRecord, Parent
from registry.policy import Policy
from registry.publishing import Also
from registry.rules import SUITE_TAG
from registry.versions import Expected
from serving.adapter import CONFIG, WEIGHTS
from trainer.evidence import EVIDENCE_FILE, Measurements, read_evidence
from trainer.lane import Lane
from trainer.spec import Spec


@dataclass(frozen=True, kw_only=True)
class Release:
    """How a candidate goes out: what it becomes in the same event, who asked for it, and the policy, if it sets one."""

    aliases: Mapping[str, Expected]
    also: Also | None = None
    trigger: str | None = None
    policy: Policy | None = None
    reason: str


def starting_tensors(directory: Path) -> dict[str, Tensor]:
    """An adapter's tensors under the names PEFT's modules have while they train."""
    return {name.replace(".weight", ".default.weight"): each for name, each in load_file(directory / WEIGHTS).items()}


def save_adapter(lane: Lane, profile: BaseProfile, directory: Path) -> None:
    """PEFT's two files, byte for byte the same for the same training."""
    tensors = {name.replace(".default.weight", ".weight"): each.cpu() for name, each in lane.learned().items()}
    save_file(tensors, directory / WEIGHTS, metadata={"format": "pt"})
    config = lane.trainee.config.to_dict() | {
        "base_model_name_or_path": profile.identity.id,
        "inference_mode": True,
    }
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    (directory / CONFIG).write_bytes(msgspec.json.format(msgspec.json.encode(plain, order="sorted"), indent=1) + b"\n")


def publish(
    registry: Registry,
    profile: BaseProfile,
    spec: Spec,
    files: Path,
    rows: Path,
    *,
    parent: Version | None,
    release: Release,
    progress: Callable[[int, int], None],
) -> Version:
    """Upload the rows, then commit the version and what it becomes in one event.

    Conflict when an alias holds something else than the release expects.
    """
    registry.register_base(profile)
    datasets = Datasets(registry.store, registry.tenant)
    dataset = datasets.put(rows)
    evidence = read_evidence(files)
    return registry.publish(
        spec.job.name,
        files,
        profile=profile,
        parent=Parent(adapter=parent.adapter, digest=parent.digest) if parent else None,
        dataset=DatasetRecord(
            uri=datasets.uri(dataset), sha256=dataset, rows=evidence.data.rows, counts=evidence.data.counts
        ),
        trainer=_trainer(spec),
        metrics=_plain_metrics(evidence.measured),
        evidence=EVIDENCE_FILE,
        trigger=release.trigger,
        tags={SUITE_TAG + name: rows for name, rows in evidence.suites.items()},
        aliases=release.aliases,
        also=release.also,
        policy=release.policy,
        reason=release.reason,
        progress=progress,
    )


def published_for(registry: Registry, adapter: str, trigger: str) -> Version | None:
    """The version that this trigger has already led to."""
    try:
        versions = registry.state(adapter).versions
    except NotFound:
        return None
    return next((version for version in versions if version.manifest.trigger == trigger), None)


def code_version() -> str:
    return f"lorimer {importlib.metadata.version('lorimer')}"


def _trainer(spec: Spec) -> dict[str, Any]:
    versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers", "peft")}
    config = sha256(canonical(msgspec.to_builtins(spec)))
    return {"code": code_version(), "seed": spec.job.seed, "config_sha256": config, "libraries": versions}


def _plain_metrics(measured: Measurements) -> dict[str, float]:
    """The candidate's under their own names, the others' under the role's."""
    plain = {name: metric.value for name, metric in measured.candidate.items()}
    for role in ("base", "parent"):
        plain |= {f"{role}/{name}": metric.value for name, metric in (getattr(measured, role) or {}).items()}
    return {name: value for name, value in plain.items() if value is not None}
