"""Work to be done once: each job is a log; a claim is a lease that its worker renews.

Knows nothing of what a job does: `spec` and `result` are the business of whoever files and whoever claims.

    queued -> running -> succeeded | failed          running with a lapsed lease is claimable again
    queued, running -> cancelled
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from itertools import islice
from threading import Lock
from typing import Any, Literal

import msgspec

from registry.errors import Conflict, Invalid, NotFound
from registry.log import Event, Log
from registry.names import check_name
from registry.parallel import at_once
from registry.store import Store

MAX_ATTEMPTS = 5
FOLD = 2
"""Of `fold`: checkpoints that another one made are passed over."""
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
State = Literal["absent", "queued", "running", "succeeded", "failed", "cancelled"]


class Submit(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="submit"):
    spec: dict[str, Any]


class Claim(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="claim"):
    worker: str
    lease_s: float


class Renew(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="renew"):
    progress: dict[str, Any] | None = None


class Finish(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="finish"):
    state: Literal["succeeded", "failed", "cancelled"]
    result: dict[str, Any] = {}
    error: str = ""


Op = Submit | Claim | Renew | Finish


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job as its log stood when it was read. `created` is true for the one submit that made it."""

    key: str
    spec: dict[str, Any] = {}
    state: State = "absent"
    worker: str | None = None
    attempt: int = 0
    started_at: float = 0.0
    """When the latest claim was made."""
    lease_s: float = 0.0
    lease_until: float = 0.0
    progress: dict[str, Any] = {}
    result: dict[str, Any] = {}
    error: str = ""
    created_at: float = 0.0
    updated_at: float = 0.0
    num_events: int = 0
    created: bool = False

    @property
    def finished(self) -> bool:
        return self.state in ("succeeded", "failed", "cancelled")

    def claimable(self, now: float) -> bool:
        return self.state == "queued" or (self.state == "running" and self.lease_until <= now)


class Jobs:
    """All jobs of one tenant. Methods that act for a worker raise Conflict once its lease went to another."""

    def __init__(self, store: Store, tenant: str = "default", clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._prefix = f"t/{check_name(tenant, 'tenant')}/jobs"
        self._clock = clock
        self._logs: dict[str, Log[Op, Job]] = {}
        self._finished: dict[str, Job] = {}
        self._lock = Lock()

    def submit(self, key: str, spec: dict[str, Any], *, actor: str = "") -> Job:
        """File a job; the same key again returns the job that is already there."""
        log = self._log(key)
        event = log.transact(lambda job: [] if job.state != "absent" else [Submit(spec=spec)], actor=actor)
        return msgspec.structs.replace(log.fold(), created=event is not None)

    def get(self, key: str) -> Job:
        if key in self._finished:
            return self._finished[key]
        job = self._log(key).fold()
        if job.state == "absent":
            with self._lock:
                self._logs.pop(key, None)
            raise NotFound(f"no job {key!r}", hint="`lorimer jobs list` shows what there is")
        if job.finished:
            with self._lock:  # a finished job never changes again: no need to read or hold its log
                self._finished[key] = job
                self._logs.pop(key, None)
        return job

    def list(self) -> Sequence[Job]:
        """Every job, oldest first. Those that have ended are read once."""
        keys = list(self._store.folders(f"{self._prefix}/"))
        ended = [job for key in keys if (job := self._finished.get(key)) is not None]
        known = {job.key for job in ended}
        others = at_once(self.get, (key for key in keys if key not in known))
        return sorted([*ended, *others], key=lambda job: (job.created_at, job.key))

    def history(self, key: str, after: int = 0, before: int | None = None) -> Sequence[Event[Op]]:
        """What happened to a job, in order: its events whose numbers lie between these two."""
        last = self.get(key).num_events if before is None else before - 1
        return list(islice(self._log(key).tail(after + 1), max(last - after, 0)))

    def claim(self, worker: str, lease_s: float, is_wanted: Callable[[Job], bool] = lambda _: True) -> Job | None:
        """Take the oldest wanted job that waits or whose worker fell silent; None when there is nothing to do."""
        for job in self.list():
            if not job.claimable(self._clock()) or not is_wanted(job):
                continue
            if (claimed := self._claim(job.key, worker, lease_s)) is not None:
                return claimed
        return None

    def renew(self, job: Job, worker: str | None = None) -> Job:
        """Keep the lease. Conflict: it was lost or the job was cancelled; stop working."""
        return self._act(job, Renew(), worker)

    def progress(self, job: Job, progress: dict[str, Any]) -> Job:
        """Record how far the work is; renews the lease too."""
        return self._act(job, Renew(progress=progress))

    def succeed(self, job: Job, result: dict[str, Any]) -> Job:
        return self._act(job, Finish(state="succeeded", result=result))

    def fail(self, job: Job, error: str, result: dict[str, Any] | None = None) -> Job:
        """`result` is for programs what `error` is for people: a `code`, a `param`, whatever the kind of job agrees."""
        return self._act(job, Finish(state="failed", error=error, result=result or {}))

    def cancel(self, key: str, *, reason: str = "") -> Job:
        """Cancel a job that has not finished; its worker learns of it at its next renewal."""
        self.get(key)

        def decide(job: Job) -> list[Op]:
            if job.finished:
                raise Conflict(f"job {key} is already {job.state}", actual=job.state)
            return [Finish(state="cancelled", error=reason)]

        self._log(key).transact(decide)
        return self.get(key)

    def _claim(self, key: str, worker: str, lease_s: float) -> Job | None:
        """A claim won, or None when somebody was quicker or the job has killed too many workers."""
        log = self._log(key)

        def decide(job: Job) -> list[Op]:
            if not job.claimable(self._clock()):
                return []
            if job.attempt >= MAX_ATTEMPTS:
                return [Finish(state="failed", error=f"{job.attempt} workers fell silent on it, last {job.worker}")]
            return [Claim(worker=worker, lease_s=lease_s)]

        event = log.transact(decide, actor=worker)
        if event is None or not isinstance(event.ops[0], Claim):
            return None
        return log.fold()

    def _act(self, job: Job, op: Op, worker: str | None = None) -> Job:
        """Append for the worker that holds this very claim."""
        log = self._log(job.key)

        def decide(now: Job) -> list[Op]:
            if now.state != "running" or now.attempt != job.attempt or (worker or job.worker) != now.worker:
                held = f"{now.state} by {now.worker}" if now.state == "running" else now.state
                raise Conflict(
                    f"{job.worker} no longer holds job {job.key}: it is {held}", hint="stop working", actual=now.state
                )
            return [op]

        log.transact(decide, actor=job.worker or "")
        return log.fold()

    def _log(self, key: str) -> Log[Op, Job]:
        if not _KEY.fullmatch(key):
            raise Invalid(f"not a valid job key: {key[:100]!r}", param="key")
        with self._lock:
            if key not in self._logs:
                self._logs[key] = Log(
                    self._store,
                    f"{self._prefix}/{key}",
                    self._clock,
                    op_type=Op,
                    initial=Job(key=key),
                    apply=fold,
                    fold_version=FOLD,
                )
            return self._logs[key]


def fold(job: Job, event: Event[Op]) -> Job:
    """One event applied."""
    for op in event.ops:
        job = _apply(job, event, op)
    return msgspec.structs.replace(job, updated_at=event.time, num_events=event.n)


def _apply(job: Job, event: Event[Op], op: Op) -> Job:
    replace = msgspec.structs.replace
    match op:
        case Submit():
            return replace(job, spec=op.spec, state="queued", created_at=event.time)
        case Claim():
            return replace(
                job,
                state="running",
                worker=op.worker,
                attempt=job.attempt + 1,
                started_at=event.time,
                lease_s=op.lease_s,
                lease_until=event.time + op.lease_s,
            )
        case Renew():
            progress = job.progress if op.progress is None else op.progress
            return replace(job, lease_until=event.time + job.lease_s, progress=progress)
        case Finish():
            return replace(job, state=op.state, result=op.result, error=op.error)
