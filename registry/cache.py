"""Adapters on local disk: one folder per digest, checked whenever it is asked for, fetched again when damaged."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from registry.errors import Conflict, Unavailable
from registry.verification import check_files, fetch_into
from registry.versions import Version

if TYPE_CHECKING:
    from registry.adapters import Registry


class AdapterCache:
    """Folders below `root`, safe for threads (one fetch per digest) and processes (folders appear whole)."""

    def __init__(self, root: Path, registry: Registry) -> None:
        self._root = root / "adapters"
        self._store = registry.store
        self._locks: dict[str, Lock] = {}
        self._lock = Lock()

    def path(self, version: Version) -> Path:
        """The folder with exactly this version's bytes, hashed just now."""
        folder = self._root / version.digest.removeprefix("sha256:")
        with self._lock_of(version.digest):
            if check_files(version, folder):
                return folder
            self._discard(folder)
            try:
                fetch_into(self._store, version, folder, durable=False)
            except Conflict as error:  # another process fetched it meanwhile
                if not check_files(version, folder):
                    reason = f"the cached copy of {version.name} in {folder} changes while it is read"
                    raise Unavailable(reason) from error
            return folder

    def _lock_of(self, digest: str) -> Lock:
        with self._lock:
            return self._locks.setdefault(digest, Lock())

    def _discard(self, folder: Path) -> None:
        """Move a damaged folder out of the way in one step, then remove it."""
        try:
            if folder.exists():
                grave = tempfile.mkdtemp(prefix=".damaged.", dir=self._root)
                folder.rename(Path(grave) / "adapter")
                shutil.rmtree(grave, ignore_errors=True)
        except FileNotFoundError:
            return
        except OSError as error:
            raise Unavailable(f"cannot replace {folder}: {error.strerror or error}") from error
