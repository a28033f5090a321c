"""A fine-tuning job as OpenAI's clients read one: its log's state, told in their words. Asks no store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from registry.jobs import Job
from registry.tuning import TuneJob, read_tune_job
from serving.gateway.wire.fine_tuning import (
    CheckpointMetrics,
    FineTuningJob,
    Hyperparameters,
    JobCheckpoint,
    JobError,
    Method,
    Status,
    Supervised,
)

READING, TRAINING = "reading data", "training"
"""Stages of a worker's progress that are told apart here."""


def card(job: Job, tenant: str) -> FineTuningJob:
    asked = read_tune_job(job.spec)
    wanted = _hyperparameters(asked)
    return FineTuningJob(
        id=job.key,
        created_at=int(job.created_at),
        status=status(job),
        model=asked.model,
        adapter=asked.adapter,
        fine_tuned_model=fine_tuned_model(job),
        training_file=asked.training_file,
        validation_file=asked.validation_file,
        hyperparameters=wanted,
        method=Method(supervised=Supervised(hyperparameters=wanted)),
        seed=asked.seed,
        trained_tokens=_whole(job.result, "trained_tokens"),
        error=_error(job),
        estimated_finish=_estimated_finish(job),
        finished_at=int(job.updated_at) if job.finished else None,
        organization_id=tenant,
        metadata=asked.metadata,
    )


def status(job: Job) -> Status:
    if job.state == "running":
        return "validating_files" if job.progress.get("stage") == READING else "running"
    assert job.state != "absent", "who is told of a job has found it"
    return job.state


def fine_tuned_model(job: Job) -> str | None:
    """What to ask for; None unless the job has published a version."""
    number = _whole(job.result, "version") if job.state == "succeeded" else None
    return None if number is None else f"{job.spec['adapter']}@v{number}"


def checkpoint(job: Job) -> JobCheckpoint | None:
    """The version that the job has published."""
    model = fine_tuned_model(job)
    if model is None:
        return None
    steps = _whole(job.result, "steps") or 0
    found: Mapping[str, Any] = job.result.get("metrics") or {}
    return JobCheckpoint(
        id=f"ftckpt-{job.key.removeprefix('ftjob-')}",
        created_at=int(job.updated_at),
        fine_tuned_model_checkpoint=model,
        fine_tuning_job_id=job.key,
        metrics=CheckpointMetrics(
            step=steps,
            train_loss=found.get("train_loss"),
            valid_loss=found.get("val_loss"),
            full_valid_loss=found.get("test/nll"),
        ),
        step_number=steps,
    )


def _hyperparameters(asked: TuneJob) -> Hyperparameters:
    return Hyperparameters(
        n_epochs=asked.epochs or "auto",
        batch_size=asked.batch_size or "auto",
        learning_rate_multiplier=asked.learning_rate_multiplier or "auto",
    )


def _error(job: Job) -> JobError | None:
    if job.state != "failed":
        return None
    return JobError(
        code=str(job.result.get("code") or "server_error"), message=job.error, param=job.result.get("param")
    )


def _estimated_finish(job: Job) -> int | None:
    """Where the steps done so far, and what came before them, say that the last one will be done."""
    step, steps = _whole(job.progress, "step") or 0, _whole(job.progress, "steps") or 0
    if job.state != "running" or job.progress.get("stage") != TRAINING or not 0 < step <= steps:
        return None
    spent_s = job.updated_at - job.started_at
    return int(job.updated_at + spent_s * (steps - step) / step)


def _whole(found: Mapping[str, Any], name: str) -> int | None:
    value = found.get(name)
    return value if isinstance(value, int) else None
