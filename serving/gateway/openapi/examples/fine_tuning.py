"""Examples of uploading files, and of jobs that train on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serving.gateway.openapi.examples.example import BASE, MOMENT, Example, data

FILE_ID = "file-01kaxqz8f0v3m5t7w9y1b3d5g7"
JOB_ID = "ftjob-01kaxr0c4n6q8s0v2x4z6b8d0f"
NAME = "tickets"
_KEY = JOB_ID.removeprefix("ftjob-")
_ROWS = (
    '{"messages":[{"role":"user","content":"Where is my order?"},{"role":"assistant","content":"On its way."}]}\n'
    '{"messages":[{"role":"user","content":"I want it back."},{"role":"assistant","content":"It is refunded."}]}\n'
)
_FILE = {
    "id": FILE_ID,
    "object": "file",
    "bytes": len(_ROWS),
    "created_at": MOMENT,
    "filename": "tickets.jsonl",
    "purpose": "fine-tune",
    "status": "processed",
}
_CHOSEN = {"n_epochs": 3, "batch_size": "auto", "learning_rate_multiplier": "auto"}
_QUEUED: Mapping[str, Any] = {
    "id": JOB_ID,
    "object": "fine_tuning.job",
    "created_at": MOMENT,
    "status": "queued",
    "model": BASE,
    "adapter": NAME,
    "fine_tuned_model": None,
    "training_file": FILE_ID,
    "validation_file": None,
    "hyperparameters": _CHOSEN,
    "method": {"type": "supervised", "supervised": {"hyperparameters": _CHOSEN}},
    "seed": 7,
    "trained_tokens": None,
    "error": None,
    "estimated_finish": None,
    "finished_at": None,
    "organization_id": "default",
    "metadata": {"team": "shop"},
    "result_files": [],
    "integrations": [],
}
_DONE = {
    **_QUEUED,
    "status": "succeeded",
    "fine_tuned_model": f"{NAME}@v1",
    "trained_tokens": 48210,
    "finished_at": MOMENT + 240,
}
_CANCELLED = {**_QUEUED, "status": "cancelled", "finished_at": MOMENT + 9}


def _event(number: int, message: str, **numbers: float) -> dict[str, Any]:
    return {
        "id": f"ftevent-{_KEY}-{number}",
        "object": "fine_tuning.job.event",
        "created_at": MOMENT + number,
        "level": "info",
        "message": message,
        "type": "metrics" if numbers else "message",
        "data": numbers,
    }


_EVENTS = [
    _event(1, f"created: {NAME} is to be trained from {BASE}"),
    _event(2, "a worker has begun"),
    _event(5, "training 20/60: training loss 1.8423", step=20, steps=60, train_loss=1.8423),
    _event(9, f"succeeded: {NAME}@v1"),
]
_CHECKPOINT = {
    "id": f"ftckpt-{_KEY}",
    "object": "fine_tuning.job.checkpoint",
    "created_at": MOMENT + 240,
    "fine_tuned_model_checkpoint": f"{NAME}@v1",
    "fine_tuning_job_id": JOB_ID,
    "metrics": {"step": 60, "full_valid_loss": 1.2711},
    "step_number": 60,
}
_OF_JOB = {"job_id": JOB_ID}

FINE_TUNING: Mapping[str, Example] = {
    "upload_file": Example(bodies={"rows": {"purpose": "fine-tune", "file": _ROWS}}, answer=_FILE),
    "list_files": Example(
        answer={"object": "list", "data": [_FILE], "has_more": False, "first_id": FILE_ID, "last_id": FILE_ID}
    ),
    "show_file": Example(path={"file_id": FILE_ID}, answer=_FILE),
    "download_file": Example(path={"file_id": FILE_ID}, answer=_ROWS),
    "delete_file": Example(path={"file_id": FILE_ID}, answer={"id": FILE_ID, "object": "file", "deleted": True}),
    "create_tuning_job": Example(
        bodies={
            "from the base": {"model": BASE, "training_file": FILE_ID},
            "with everything": {
                "model": BASE,
                "training_file": FILE_ID,
                "suffix": NAME,
                "seed": 7,
                "metadata": {"team": "shop"},
                "method": {"type": "supervised", "supervised": {"hyperparameters": _CHOSEN}},
            },
        },
        answer=_QUEUED,
    ),
    "list_tuning_jobs": Example(answer={"object": "list", "data": [_DONE], "has_more": False}),
    "show_tuning_job": Example(path=_OF_JOB, answer=_DONE),
    "cancel_tuning_job": Example(path=_OF_JOB, answer=_CANCELLED),
    "list_tuning_events": Example(
        path=_OF_JOB, answer={"object": "list", "data": _EVENTS[::-1], "has_more": False}, stream=data(*_EVENTS)
    ),
    "list_tuning_checkpoints": Example(
        path=_OF_JOB,
        answer={
            "object": "list",
            "data": [_CHECKPOINT],
            "has_more": False,
            "first_id": _CHECKPOINT["id"],
            "last_id": _CHECKPOINT["id"],
        },
    ),
    "pause_tuning_job": Example(path=_OF_JOB, answer=_QUEUED),
    "resume_tuning_job": Example(path=_OF_JOB, answer=_QUEUED),
}
