"""The worker: claims jobs by lease, does what their kind asks, and reports. It may be killed at any instruction.

A job whose worker falls silent is claimed again; its checkpoints let the next one go on, and what triggered it, kept in
the published version, keeps a second publication from happening. Knows no drift, no uploaded file and no HTTP.

A worker may serve the jobs of several tenants, each in its own registry; then they take turns.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from registry.adapters import Registry
from registry.errors import Busy, Conflict, LorimerError, Refused, Unavailable
from registry.jobs import Job, Jobs
from registry.settings import Settings
from serving.base import Base
from trainer import retrain, tuning
from trainer.candidate import Workplace
from trainer.desks import Desks
from trainer.evaluate import Runner
from trainer.reporting import NONE, Numbers

logger = logging.getLogger("lorimer.worker")

RENEWALS_PER_LEASE = 4
KINDS: dict[str, Callable[[Job, Workplace], dict[str, Any]]] = {retrain.KIND: retrain.work, tuning.KIND: tuning.work}
"""What a kind of job asks for: (job, place) -> its result. What is raised is why it failed."""


@dataclass(frozen=True, eq=False)
class Bench:
    """What one tenant's jobs are claimed from and worked on with."""

    registry: Registry
    jobs: Jobs
    desks: Desks


class Worker:
    """One worker; several may share a bucket. `threads`: torch threads for training, 0 = as the process is set.

    `neighbours` are the registries of other tenants whose jobs it does too, as they are now.
    """

    def __init__(
        self,
        registry: Registry,
        base: Base,
        engine: Runner,
        settings: Settings,
        clock: Callable[[], float] = time.time,
        *,
        threads: int = 0,
        neighbours: Callable[[], Sequence[Registry]] = lambda: (),
    ) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{threading.get_ident() % 10_000}"
        self._registry = registry
        self._base = base
        self._engine = engine
        self._settings = settings
        self._threads = threads
        self._clock = clock
        self._neighbours = neighbours
        self._benches: dict[str, Bench] = {}
        self._num_polls = 0

    def run(self, stop: threading.Event) -> None:
        """Claim and work until told to stop; a job in hand checkpoints first."""
        if self._threads:
            torch.set_num_threads(self._threads)
        while not stop.is_set():
            try:
                worked = self.work_once(stop)
            except LorimerError as error:
                logger.warning("no job can be claimed now: %s", error)
                worked = None
            if worked is None:
                stop.wait(self._settings.worker_poll_s)

    def work_once(self, stop: threading.Event) -> Job | None:
        """Claim the next job and bring it to an end; None when there is none to be had."""
        for bench in self._round():
            job = bench.jobs.claim(self.name, self._settings.lease_s, self._is_for_our_base)
            if job is None:
                continue
            logger.info("claimed job %s of %s, attempt %d", job.key, bench.registry.tenant, job.attempt)
            try:
                return self._bring_to_an_end(bench, job, stop)
            finally:
                bench.desks.clear(bench.jobs)
        return None

    def _round(self) -> list[Bench]:
        """Our own tenant and the next of its neighbours, each first in turn: a poll costs two looks, not all."""
        neighbours = [each for each in self._neighbours() if each.tenant != self._registry.tenant]
        looked_at = [self._registry]
        if neighbours:
            looked_at.append(neighbours[self._num_polls // 2 % len(neighbours)])
        if self._num_polls % 2:
            looked_at.reverse()
        self._num_polls += 1
        return [self._bench(each) for each in looked_at]

    def _bench(self, registry: Registry) -> Bench:
        """Cleared, the first time, of what was left by a worker that died."""
        if (bench := self._benches.get(registry.tenant)) is None:
            jobs = Jobs(registry.store, registry.tenant, self._clock)
            bench = Bench(registry, jobs, Desks(self._settings.cache_path(), registry.tenant))
            bench.desks.clear(jobs)
            self._benches[registry.tenant] = bench
        return bench

    def _is_for_our_base(self, job: Job) -> bool:
        return job.spec.get("base") in (None, self._base.profile.identity.weights_sha256)

    def _bring_to_an_end(self, bench: Bench, job: Job, stop: threading.Event) -> Job | None:
        """None where it rests, or belongs to another by now."""
        jobs = bench.jobs
        with Tenure(jobs, job, self._settings.lease_s) as tenure:
            try:
                result = self._work(bench, job, tenure, lambda: stop.is_set() or tenure.lost)
                end = partial(jobs.succeed, job, result)
            except (Unavailable, Busy) as error:
                # Not the job's fault: whoever claims it next goes on from its checkpoint.
                logger.warning("job %s rests: %s", job.key, error)
                return None
            except LorimerError as error:
                fault = {"code": error.code or error.kind, "param": error.param}
                end = partial(jobs.fail, job, str(error), fault)
            except Exception as error:
                logger.exception("job %s failed", job.key)
                fault = {"code": "internal_error", "param": None}
                end = partial(jobs.fail, job, f"{type(error).__name__}: {error}", fault)
        try:
            return end()
        except Conflict as lost:
            logger.warning("job %s: %s", job.key, lost)
            return None

    def _work(self, bench: Bench, job: Job, tenure: Tenure, stop: Callable[[], bool]) -> dict[str, Any]:
        if (work := KINDS.get(str(job.spec.get("kind")))) is None:
            raise Refused(
                f"this worker does not know jobs of kind {job.spec.get('kind')!r}", hint=f"it knows {', '.join(KINDS)}"
            )
        home = self._settings.cache_path()
        return work(job, Workplace(bench.registry, self._base, self._engine, home, tenure.report, stop))


class Tenure:
    """Holds a job's lease: renews it from a thread of its own, and takes along how far the work is.

    A new stage is told at once, after the last word on the one before: so a job that was cancelled meanwhile is not
    begun, measured or published any further.
    """

    def __init__(self, jobs: Jobs, job: Job, lease_s: float) -> None:
        self.lost = False
        self._jobs = jobs
        self._job = job
        self._progress: dict[str, Any] = {}
        self._told = self._progress
        self._telling = threading.Lock()
        self._over = threading.Event()
        self._period_s = lease_s / RENEWALS_PER_LEASE
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def __enter__(self) -> Tenure:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def report(self, stage: str, done: int, total: int, note: str = "", numbers: Numbers = NONE, /) -> None:
        """Keep the latest; the lease's thread takes it along."""
        is_new = stage != self._progress.get("stage")
        if is_new and self._progress is not self._told:
            self._tell()
        self._progress = {"stage": stage, "step": done, "steps": total, "note": note, **numbers}
        if is_new:
            self._tell()

    def _keep(self) -> None:
        while not self.lost and not self._over.wait(min(self._period_s, 2.0)):
            self._tell()

    def _tell(self) -> None:
        """Renew the lease, with the progress where there is news of it."""
        with self._telling:
            progress = self._progress
            try:
                if self.lost:
                    return
                if progress is self._told:
                    self._jobs.renew(self._job)
                else:
                    self._jobs.progress(self._job, progress)
                self._told = progress
            except Conflict as error:
                logger.warning("%s", error)
                self.lost = True
            except LorimerError as error:
                logger.warning("the lease of job %s could not be renewed: %s", self._job.key, error)
