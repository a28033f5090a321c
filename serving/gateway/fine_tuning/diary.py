"""What happened to a fine-tuning job, read from its own log: newest first a page at a time, or as it happens.

An event's id is its number in the log, so it is the same whoever asks, and whenever. Leases that are only renewed tell
nothing and are left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from registry.errors import Invalid
from registry.jobs import Claim, Finish, Job, Jobs, Op, Renew, Submit
from registry.log import Event
from serving.gateway.fine_tuning.card import fine_tuned_model
from serving.gateway.wire.fine_tuning import JobEvent

PAGE = 64
"""Events read at a time."""
_ID = re.compile(r"ftevent-(?P<job>[A-Za-z0-9-]+)-(?P<n>[1-9][0-9]{0,9})")
LOSSES = {"train_loss": "training loss", "val_loss": "validation loss"}


class Diary:
    """Of one job. Its methods block on the store."""

    def __init__(self, jobs: Jobs, job: Job) -> None:
        self._jobs = jobs
        self._job = job

    def newest(self, limit: int, before: int | None = None) -> Sequence[JobEvent]:
        """The newest entries, newest first, of those with a lower number."""
        return tuple(islice(self._backwards(self._job.num_events + 1 if before is None else before), limit))

    def following(self, number: int) -> Sequence[JobEvent]:
        """Every entry with a higher number, in order."""
        return tuple(self._entries(number + 1, self._job.num_events + 1))

    def number_of(self, id: str) -> int:
        """Which entry an id names. Invalid: none of this job's."""
        found = _ID.fullmatch(id)
        if found is None or found["job"] != self._job.key.removeprefix("ftjob-"):
            raise Invalid(f"{id[:100]!r} is no event of {self._job.key}", param="after", code="invalid_value")
        return int(found["n"])

    def _backwards(self, end: int) -> Iterator[JobEvent]:
        while end > 1:
            first = max(end - PAGE, 1)
            yield from reversed([*self._entries(first, end)])
            end = first

    def _entries(self, first: int, end: int) -> Iterator[JobEvent]:
        """Of the events first..end-1; the one before them shows whether the first says anything new."""
        previous: Event[Op] | None = None
        for event in self._jobs.history(self._job.key, max(first - 2, 0), end):
            if event.n >= first and (entry := self._entry(event, previous)) is not None:
                yield entry
            previous = event

    def _entry(self, event: Event[Op], previous: Event[Op] | None) -> JobEvent | None:
        id, (op,) = f"ftevent-{self._job.key.removeprefix('ftjob-')}-{event.n}", event.ops
        told = _progress(op, previous) if isinstance(op, Renew) else _turn(op, self._job)
        if told is None:
            return None
        level, message, data = told
        return JobEvent(
            id=id,
            created_at=int(event.time),
            level=level,
            message=message,
            type="metrics" if data else "message",
            data=data,
        )


def _turn(op: Submit | Claim | Finish, job: Job) -> tuple[Any, str, Mapping[str, Any]]:
    """(level, message, data) of what changes a job's state."""
    match op:
        case Submit():
            return "info", f"created: {op.spec.get('adapter')} is to be trained from {op.spec.get('model')}", {}
        case Claim():
            return "info", "a worker has begun", {}
        case Finish(state="succeeded"):
            return "info", f"succeeded: {fine_tuned_model(job) or 'nothing was published'}", {}
        case Finish(state="failed"):
            return "error", f"failed: {op.error}", {}
        case Finish():
            return "warn", f"cancelled: {op.error}" if op.error else "cancelled", {}


def _progress(op: Renew, previous: Event[Op] | None) -> tuple[Any, str, Mapping[str, Any]] | None:
    """None where it says nothing that the event before has not said."""
    now, before = op.progress or {}, previous.ops[0] if previous is not None else None
    if not now or (isinstance(before, Renew) and before.progress == now):
        return None
    numbers = {name: value for name, value in now.items() if _is_number(value)}
    losses = [f"{words} {numbers[name]:.4f}" for name, words in LOSSES.items() if name in numbers]
    words = [f"{now.get('stage') or 'working'} {now.get('step', 0)}/{now.get('steps', 0)}"]
    said = losses or [str(now["note"])] if losses or now.get("note") else []
    return "info", ": ".join([*words, *([", ".join(said)] if said else [])]), numbers if losses else {}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
