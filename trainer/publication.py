"""A candidate's files, and how they reach the registry: PEFT's two files, the dataset, the manifest. Judges nothing."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from safetensors.torch import load_file, save_file
from torch import Tensor

from registry.adapters import Registry, Version
from registry.canonical import canonical, sha256
from registry.datasets import Datasets
from registry.manifest import BaseProfile, DatasetRecord, Parent
from registry.policy import Policy
from registry.rules import SUITE_TAG
from serving.adapter import CONFIG, WEIGHTS
from trainer.evidence import EVIDENCE_FILE, Measurements, read_evidence
from trainer.lane import Lane
from trainer.spec import Spec


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
    trigger: str | None,
    progress: Callable[[int, int], None],
) -> Version:
    """Upload the rows, then commit the version and its alias in one event.

    After a drift (`trigger`) the alias must still mean the parent, else Conflict, and the owner's policy stays.
    """
    registry.register_base(profile)
    datasets = Datasets(registry.store, registry.tenant)
    dataset = datasets.put(rows)
    evidence = read_evidence(files)
    aliases: dict[str, str | UnsetType | None] = {}
    if spec.publish.alias is not None:
        aliases[spec.publish.alias] = parent.digest if parent is not None and trigger is not None else UNSET
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
        trigger=trigger,
        tags={SUITE_TAG + name: rows for name, rows in evidence.suites.items()},
        aliases=aliases,
        policy=None if trigger is not None else Policy(**msgspec.to_builtins(spec.monitor)),
        reason=f"drift episode {trigger}" if trigger else "trained",
        progress=progress,
    )


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
