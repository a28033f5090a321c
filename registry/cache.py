"""Adapters on local disk: one folder per digest, checked whenever it is asked for, fetched again when damaged.

Beyond the byte budget, folders that were not asked for longest go first. A folder's time is that of its last use.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from registry.errors import Conflict, Unavailable
from registry.verification import check_files, fetch_into
from registry.versions import Version

if TYPE_CHECKING:
    from registry.adapters import Registry


BYTE_BUDGET = 64 << 30
GRACE_S = 600.0
"""A folder asked for this lately stays: somebody, of another process perhaps, may be reading it."""
SPARE = 0.1
"""Share of the budget that is made free at once, so that not every fetch must look for room."""


@dataclass
class CacheStats:
    """Since the start. Seconds are those that it took to have verified files."""

    from_disk: int = 0
    from_disk_s: float = 0.0
    from_store: int = 0
    from_store_s: float = 0.0
    fetched_bytes: int = 0
    damaged: int = 0
    """Folders whose bytes were not what they had been when they were fetched."""
    evicted: int = 0


class AdapterCache:
    """Folders below `root`, safe for threads (one fetch per digest) and processes (folders appear whole)."""

    def __init__(
        self,
        root: Path,
        registry: Registry,
        byte_budget: int = BYTE_BUDGET,
        clock: Callable[[], float] = time.time,
        pause: Callable[..., None] = lambda *_: None,
    ) -> None:
        """`pause` is called again and again between small pieces of work, so that others may be let go first."""
        self._root = root / "adapters"
        self._pause = pause
        self._store = registry.store
        self._budget = byte_budget
        self._clock = clock
        self._num_bytes: int | None = None
        """As far as this process knows; None before the first look."""
        self._locks: dict[str, Lock] = {}
        self._lock = Lock()
        self._stats = CacheStats()

    def stats(self) -> CacheStats:
        with self._lock:
            return replace(self._stats)

    def path(self, version: Version) -> Path:
        """The folder with exactly this version's bytes, hashed just now."""
        folder = self._root / version.digest.removeprefix("sha256:")
        with self._lock_of(version.digest):
            began = time.perf_counter()
            is_whole = check_files(version, folder, self._pause)
            if not is_whole:
                self._fetch(version, folder)
            self._touch(folder)
            self._count(version, is_whole, time.perf_counter() - began)
        if not is_whole:
            self._keep_budget(version.manifest.num_bytes)
        return folder

    def _fetch(self, version: Version, folder: Path) -> None:
        if self._discard(folder):
            with self._lock:
                self._stats.damaged += 1
        try:
            fetch_into(self._store, version, folder, self._pause, durable=False)
        except Conflict as error:  # another process fetched it meanwhile
            if not check_files(version, folder, self._pause):
                reason = f"the cached copy of {version.name} in {folder} changes while it is read"
                raise Unavailable(reason) from error

    def _count(self, version: Version, from_disk: bool, seconds: float) -> None:
        with self._lock:
            stats = self._stats
            if from_disk:
                stats.from_disk += 1
                stats.from_disk_s += seconds
            else:
                stats.from_store += 1
                stats.from_store_s += seconds
                stats.fetched_bytes += version.manifest.num_bytes

    def _touch(self, folder: Path) -> None:
        with suppress(OSError):  # another process removed it: whoever opens it will see
            os.utime(folder, (self._clock(), self._clock()))

    def _keep_budget(self, added: int) -> None:
        """Look at the folders only when they may have become too large."""
        with self._lock:
            self._num_bytes = None if self._num_bytes is None else self._num_bytes + added
            if self._num_bytes is not None and self._num_bytes <= self._budget:
                return
            folders = sorted(self._folders())
            self._num_bytes = sum(num_bytes for _, num_bytes, _ in folders)
            if self._num_bytes <= self._budget:
                return
            for used_at, num_bytes, folder in folders:
                if self._num_bytes <= self._budget * (1 - SPARE) or used_at > self._clock() - GRACE_S:
                    return
                self._discard(folder)
                self._num_bytes -= num_bytes
                self._stats.evicted += 1

    def _folders(self) -> Iterator[tuple[float, int, Path]]:
        """When each was last used, and how large it is."""
        with os.scandir(self._root) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    self._pause()
                    with suppress(OSError):
                        yield entry.stat().st_mtime, _num_bytes(entry.path), Path(entry.path)

    def _lock_of(self, digest: str) -> Lock:
        with self._lock:
            return self._locks.setdefault(digest, Lock())

    def _discard(self, folder: Path) -> bool:
        """Move a folder out of the way in one step, then remove it. False: there was none."""
        try:
            if found := folder.exists():
                grave = tempfile.mkdtemp(prefix=".damaged.", dir=self._root)
                folder.rename(Path(grave) / "adapter")
                shutil.rmtree(grave, ignore_errors=True)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise Unavailable(f"cannot replace {folder}: {error.strerror or error}") from error
        return found


def _num_bytes(folder: str) -> int:
    """Of all files below."""
    with os.scandir(folder) as entries:
        return sum(_num_bytes(entry.path) if entry.is_dir() else entry.stat().st_size for entry in entries)
