"""The worker: claims retraining jobs by lease, trains, and reports. It may be killed at any instruction.

A job whose worker falls silent is claimed again; its checkpoints let the next one go on, and its episode's key in the
published version keeps a second publication from happening. Knows no drift and no HTTP.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import torch

from registry.adapters import Registry
from registry.errors import Busy, Conflict, LorimerError, Refused, Unavailable
from registry.jobs import Job, Jobs
from registry.names import DEFAULT_ALIAS
from registry.settings import Settings
from serving.base import Base
from trainer.candidate import Outcome
from trainer.evaluate import Runner
from trainer.retrain import published_for, read_job, retrain

logger = logging.getLogger("lorimer.worker")

RENEWALS_PER_LEASE = 4


class Worker:
    """One worker; several may share a bucket. `threads`: torch threads for training, 0 = as the process is set."""

    def __init__(
        self,
        registry: Registry,
        base: Base,
        engine: Runner,
        settings: Settings,
        clock: Callable[[], float] = time.time,
        *,
        threads: int = 0,
    ) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{threading.get_ident() % 10_000}"
        self._registry = registry
        self._base = base
        self._engine = engine
        self._settings = settings
        self._threads = threads
        self._jobs = Jobs(registry.store, registry.tenant, clock)

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
        job = self._jobs.claim(self.name, self._settings.lease_s)
        if job is None:
            return None
        logger.info("claimed job %s, attempt %d", job.key, job.attempt)
        with Tenure(self._jobs, job, self._settings.lease_s) as tenure:
            try:
                result = self._work(job, tenure, lambda: stop.is_set() or tenure.lost)
            except (Unavailable, Busy) as error:
                # Not the job's fault: whoever claims it next goes on from its checkpoint.
                logger.warning("job %s rests: %s", job.key, error)
                return None
            except LorimerError as error:
                return self._end(job, tenure, error=str(error))
            except Exception as error:
                logger.exception("job %s failed", job.key)
                return self._end(job, tenure, error=f"{type(error).__name__}: {error}")
        return self._end(job, tenure, result=result)

    def _work(self, job: Job, tenure: Tenure, stop: Callable[[], bool]) -> dict[str, Any]:
        if job.spec.get("kind") != "drift-retrain":
            raise Refused(f"this worker does not know jobs of kind {job.spec.get('kind')!r}", hint="drift-retrain")
        asked = read_job(job.spec)
        done = published_for(self._registry, asked)
        if done is not None:
            live = self._registry.state(asked.adapter).aliases.get(DEFAULT_ALIAS) == done.digest
            return {"promoted": live, "digest": done.digest, "version": done.number, "reasons": ["published before"]}
        home = self._settings.cache_path()
        outcome = retrain(job.spec, self._registry, self._base, self._engine, tenure.report, home=home, stop=stop)
        return told(outcome)

    def _end(self, job: Job, tenure: Tenure, *, result: dict[str, Any] | None = None, error: str = "") -> Job | None:
        """Record the end, unless the job is no longer ours."""
        tenure.close()
        try:
            return self._jobs.fail(job, error) if result is None else self._jobs.succeed(job, result)
        except Conflict as lost:
            logger.warning("job %s: %s", job.key, lost)
            return None


class Tenure:
    """Holds a job's lease: renews it from a thread of its own, with the latest progress."""

    def __init__(self, jobs: Jobs, job: Job, lease_s: float) -> None:
        self.lost = False
        self._jobs = jobs
        self._job = job
        self._progress: dict[str, Any] = {}
        self._over = threading.Event()
        self._period_s = lease_s / RENEWALS_PER_LEASE
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def __enter__(self) -> Tenure:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._over.set()
        self._thread.join()

    def report(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Keep the latest; the lease's thread takes it along."""
        self._progress = {"stage": stage, "step": done, "steps": total, "note": note}

    def _keep(self) -> None:
        while not self._over.wait(min(self._period_s, 2.0)):
            try:
                self._jobs.progress(self._job, self._progress)
            except Conflict as error:
                logger.warning("%s", error)
                self.lost = True
                return
            except LorimerError as error:
                logger.warning("the lease of job %s could not be renewed: %s", self._job.key, error)


def told(outcome: Outcome) -> dict[str, Any]:
    """An outcome as a job's result."""
    version = outcome.version
    return {
        "promoted": version is not None,
        "digest": version.digest if version else None,
        "version": version.number if version else None,
        "reasons": list(outcome.verdict.reasons if version else outcome.verdict.failures),
    }
