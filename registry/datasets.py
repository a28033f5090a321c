"""Training data in the bucket, named by its sha256. Stores files; never reads a row."""

from __future__ import annotations

from pathlib import Path

from registry.canonical import sha256_file
from registry.errors import Corrupt, NotFound
from registry.manifest import FileEntry
from registry.names import check_name
from registry.store import Store
from registry.transfer import Meter, upload


class Datasets:
    def __init__(self, store: Store, tenant: str = "default") -> None:
        self._store = store
        self._prefix = f"t/{check_name(tenant, 'tenant')}/datasets"

    def uri(self, sha256: str) -> str:
        """Where it lies, independent of the store's place."""
        return f"lorimer:{self._key(sha256)}"

    def put(self, path: Path) -> str:
        """Store a file once; its sha256 is its name."""
        sha256 = sha256_file(path)
        entry = FileEntry(path=path.name, sha256=sha256, size=path.stat().st_size)
        upload(self._store, self._key(sha256), path, entry, Meter(entry.size, None))
        return sha256

    def fetch(self, sha256: str, path: Path) -> None:
        """Write the dataset to `path`; Corrupt when its bytes are not what its name says."""
        key = self._key(sha256)
        if not self._store.exists(key):
            raise NotFound(f"no dataset {sha256} in {self._store.url}")
        self._store.fetch(key, path)
        if sha256_file(path) != sha256:
            path.unlink(missing_ok=True)
            raise Corrupt(f"{key} is damaged: its bytes do not have its sha256")

    def _key(self, sha256: str) -> str:
        return f"{self._prefix}/{sha256}.jsonl"
