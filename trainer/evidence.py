"""What was measured, by role, and the bundle a version carries as `evidence.json`. Data only; decides nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from registry.errors import Corrupt, NotFound

EVIDENCE_FILE = "evidence.json"


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """A value with its 95 % bootstrap interval over the `n` held-out rows; None where it is not a number."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int


class Measurements(msgspec.Struct, frozen=True, kw_only=True):
    """The same held-out rows answered by each model, in the same batches. Keys are `<set>/<metric>`."""

    candidate: dict[str, Metric]
    base: dict[str, Metric] | None = None
    parent: dict[str, Metric] | None = None


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """How the candidate came about. `losses` is the mean loss per supervised token of each step."""

    steps: int
    tokens: int
    best_step: int
    losses: tuple[float, ...]
    validations: dict[str, float]


class DataCounts(msgspec.Struct, frozen=True, kw_only=True):
    sha256: str
    rows: int
    counts: dict[str, int]


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    spec: dict[str, Any]
    base: dict[str, Any]
    parent: str | None
    data: DataCounts
    training: Training
    measured: Measurements
    suites: dict[str, str] = {}
    """Set -> fingerprint of the held-out rows that were answered."""
    passed: bool
    reasons: tuple[str, ...]
    code: str


def write_evidence(evidence: Evidence, directory: Path) -> None:
    (directory / EVIDENCE_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(evidence), indent=1) + b"\n")


def read_evidence(path: Path) -> Evidence:
    """Read `evidence.json`, or the one inside a run's or version's directory."""
    file = path / EVIDENCE_FILE if path.is_dir() else path
    try:
        return msgspec.json.decode(file.read_bytes(), type=Evidence)
    except FileNotFoundError as error:
        raise NotFound(f"no evidence at {file}", hint="name a run's version directory or its evidence.json") from error
    except msgspec.DecodeError as error:
        raise Corrupt(f"{file} is not evidence: {error}") from error
