"""A fine-tuning job as it stands in its log: which files, from which model, under which name. Trains nothing.

Whoever files one has checked it; whoever claims one reads it here, and ignores what a newer release added.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from registry.errors import Invalid
from registry.jobs import Job

KIND = "fine-tune"


class TuneJob(msgspec.Struct, frozen=True, kw_only=True):
    """`None` where the trainer shall choose. `parent`: `adapter@sha256:...` to start warm from; None: from the base."""

    kind: str = KIND
    adapter: str
    """The name to publish under."""
    base: str | None = None
    """The sha256 of the weights that it is for: workers of another base leave it."""
    training_file: str
    validation_file: str | None = None
    parent: str | None = None
    model: str = ""
    """As it was asked for, to be told back."""
    epochs: int | None = None
    batch_size: int | None = None
    """Rows a step."""
    learning_rate_multiplier: float | None = None
    seed: int = 0
    metadata: dict[str, str] = {}


def read_tune_job(spec: Mapping[str, Any]) -> TuneJob:
    """A job's spec as a TuneJob; Invalid for anything else."""
    if spec.get("kind") != KIND:
        raise Invalid(f"not a fine-tuning job: its kind is {spec.get('kind')!r}", param="spec")
    try:
        return msgspec.convert(dict(spec), TuneJob)
    except msgspec.ValidationError as error:
        raise Invalid(f"not a fine-tuning job: {error}", param="spec") from error


def needed_by(jobs: Iterable[Job], file_id: str) -> Job | None:
    """An unfinished fine-tuning job that reads this file."""
    return next((job for job in jobs if not job.finished and _reads(job, file_id)), None)


def _reads(job: Job, file_id: str) -> bool:
    return job.spec.get("kind") == KIND and file_id in (job.spec.get("training_file"), job.spec.get("validation_file"))
