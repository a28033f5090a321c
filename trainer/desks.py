"""Where a job keeps what must outlive its worker: a directory of its own, gone once the job is over.

    <cache>/jobs/<tenant>/<key>/    the files it was given, and its run with its checkpoints

Knows no training.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from registry.errors import LorimerError, NotFound, Unavailable
from registry.jobs import Jobs

logger = logging.getLogger("lorimer.worker")


class Desks:
    """The desks of one tenant's jobs below `home`. Several workers may share it: a job has one worker at a time."""

    def __init__(self, home: Path, tenant: str) -> None:
        self._root = home / "jobs" / tenant

    def of(self, key: str) -> Path:
        """A job's own directory, made if need be."""
        desk = self._root / key
        try:
            desk.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(f"cannot write to {desk}: {error.strerror or error}") from error
        return desk

    def clear(self, jobs: Jobs) -> None:
        """Remove the desks of jobs that are over, however they ended; what cannot be told now is left for later."""
        for desk in self._root.glob("*"):
            try:
                over = jobs.get(desk.name).finished
            except NotFound:  # of another store, perhaps, with the same cache
                continue
            except LorimerError as error:
                logger.warning("whether job %s is over cannot be told: %s", desk.name, error)
                continue
            if over:
                shutil.rmtree(desk, ignore_errors=True)
