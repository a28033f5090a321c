"""/v1/fine_tuning/jobs on the wire. Knows no HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from serving.gateway.wire.values import Metadata, Name

Auto = Literal["auto"]
Status = Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]
Epochs = Annotated[int, Meta(ge=1, le=50)]
Rows = Annotated[int, Meta(ge=1, le=256)]
Multiplier = Annotated[float, Meta(gt=0, le=100)]


class Hyperparameters(msgspec.Struct, frozen=True, kw_only=True):
    """`auto` leaves a choice to the trainer."""

    n_epochs: Auto | Epochs = "auto"
    """How often every row is learned from."""
    batch_size: Auto | Rows = "auto"
    """Rows a step."""
    learning_rate_multiplier: Auto | Multiplier = "auto"
    """Times the trainer's own learning rate."""


class Supervised(msgspec.Struct, frozen=True, kw_only=True):
    hyperparameters: Hyperparameters = Hyperparameters()


class Method(msgspec.Struct, frozen=True, kw_only=True):
    """`supervised` alone is supported; the others are refused by name."""

    type: Literal["supervised", "dpo", "reinforcement"] = "supervised"
    supervised: Supervised = Supervised()


class JobUnsupported(msgspec.Struct, frozen=True, kw_only=True):
    """What OpenAI's request has and this one does not."""

    integrations: Any = None


class JobRequest(JobUnsupported, frozen=True, kw_only=True):
    """What to learn, on top of what, and under which name."""

    model: Name
    """The base; or an adapter, which training then starts from and must not make worse."""
    training_file: Name
    """Id of an uploaded file. Its rows hold `messages`, `prompt` and `completion`, or `text` and `label`."""
    validation_file: Name | None = None
    hyperparameters: Hyperparameters | None = None
    """As in `method.supervised`, which goes first where both are given."""
    method: Method | None = None
    suffix: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    """The name of the adapter to publish: `a-z 0-9 . _ -`. Without one, it is named after the job."""
    seed: Annotated[int, Meta(ge=0, le=(1 << 31) - 1)] | None = None
    metadata: Metadata | None = None


class JobError(msgspec.Struct, frozen=True, kw_only=True):
    """Why a job failed."""

    code: str
    message: str
    param: str | None


class FineTuningJob(msgspec.Struct, frozen=True, kw_only=True):
    """A fine-tuning job, as it stands."""

    id: str
    created_at: int
    status: Status
    model: str
    """As it was asked for."""
    adapter: str
    """The name that is published under. Not in OpenAI's document."""
    fine_tuned_model: str | None
    """What to ask for once the job has succeeded: `adapter@v3`."""
    training_file: str
    validation_file: str | None
    hyperparameters: Hyperparameters
    method: Method
    seed: int
    trained_tokens: int | None
    error: JobError | None
    estimated_finish: int | None
    finished_at: int | None
    organization_id: str
    """The tenant."""
    metadata: Mapping[str, str]
    result_files: Sequence[str] = ()
    integrations: Sequence[Any] = ()
    object: Literal["fine_tuning.job"] = "fine_tuning.job"


class FineTuningJobList(msgspec.Struct, frozen=True, kw_only=True):
    """Some of the tenant's fine-tuning jobs, newest first."""

    data: Sequence[FineTuningJob]
    has_more: bool
    object: Literal["list"] = "list"


class JobEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to a job."""

    id: str
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: Mapping[str, Any]
    """Of `metrics`, the numbers: `step`, `steps`, `train_loss` and what else the trainer knew."""
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"


class JobEventList(msgspec.Struct, frozen=True, kw_only=True):
    """Some of what happened to a job, newest first."""

    data: Sequence[JobEvent]
    has_more: bool
    object: Literal["list"] = "list"


class CheckpointMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """Null where it was not measured."""

    step: float | None = None
    train_loss: float | None = None
    train_mean_token_accuracy: float | None = None
    valid_loss: float | None = None
    valid_mean_token_accuracy: float | None = None
    full_valid_loss: float | None = None
    full_valid_mean_token_accuracy: float | None = None


class JobCheckpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A version that a job has published."""

    id: str
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    metrics: CheckpointMetrics
    step_number: int
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"


class JobCheckpointList(msgspec.Struct, frozen=True, kw_only=True):
    """What a job has published: nothing before it has succeeded, one version then."""

    data: Sequence[JobCheckpoint]
    has_more: bool = False
    first_id: str | None = None
    last_id: str | None = None
    object: Literal["list"] = "list"
