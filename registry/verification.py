"""Checked reading: hash every stored object of an adapter again, and fetch versions into local folders."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from registry.canonical import sha256_of
from registry.errors import Conflict, Corrupt, NotFound, Unavailable
from registry.log import Log
from registry.manifest import digest
from registry.ops import Op
from registry.store import Progress, Store
from registry.versions import AdapterState, Version


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was read and found whole."""

    adapter: str
    num_events: int
    head: str
    num_versions: int
    num_blobs: int
    num_bytes: int


def verify(store: Store, log: Log[Op, AdapterState], progress: Progress | None = None) -> Report:
    """Hash chain, manifests and blobs; Corrupt names the first object that is not what was written."""
    position = log.verify()
    versions = position.state.versions
    total = sum(version.manifest.num_bytes for version in versions)
    done = blobs = 0
    for version in versions:
        if digest(version.manifest) != version.digest:
            raise Corrupt(f"{version.name}: its manifest does not have the digest {version.digest}")
        for entry in {entry.sha256: entry for entry in version.manifest.files}.values():
            key = version.blob_key(entry.sha256)
            try:
                found = sha256_of(store.chunks(key))
            except NotFound as error:
                raise Corrupt(f"{key} is missing ({version.name}, {entry.path})") from error
            if found != (entry.sha256, entry.size):
                raise Corrupt(f"{key} is damaged ({version.name}, {entry.path})")
            blobs, done = blobs + 1, done + entry.size
            if progress is not None:
                progress(done, total)
    return Report(
        adapter=position.state.adapter,
        num_events=position.n,
        head=position.head,
        num_versions=len(versions),
        num_blobs=blobs,
        num_bytes=done,
    )


def fetch_into(
    store: Store, version: Version, directory: Path, progress: Progress | None = None, *, durable: bool = True
) -> None:
    """Fetch every file into a new folder, which appears whole or not at all; bytes are hashed on their way.

    Without `durable`, a power cut may leave damaged files behind: for a cache that checks before every use.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise Conflict(f"{directory} exists and is not an empty folder", hint="name a new one")
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
        try:
            _fetch_files(store, version, temporary, progress, durable)
            temporary.chmod(0o755)
            temporary.rename(directory)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise Conflict(f"{directory} was filled by somebody else meanwhile") from error
        raise Unavailable(f"cannot write {directory}: {error.strerror or error}") from error


def check_files(version: Version, directory: Path) -> bool:
    """Whether a local folder holds exactly the bytes of a version."""
    for entry in version.manifest.files:
        try:
            with (directory / entry.path).open("rb") as file:
                if sha256_of(iter(lambda: file.read(1 << 20), b"")) != (entry.sha256, entry.size):
                    return False
        except OSError:
            return False
    return True


def _fetch_files(store: Store, version: Version, directory: Path, progress: Progress | None, durable: bool) -> None:
    done, total = 0, version.manifest.num_bytes
    for entry in version.manifest.files:
        path = directory / entry.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if _copy(store.chunks(version.blob_key(entry.sha256)), path, durable) != (entry.sha256, entry.size):
            hint = "lorimer registry verify names it"
            raise Corrupt(f"a blob of {version.name} is damaged in the store ({entry.path})", hint=hint)
        done += entry.size
        if progress is not None:
            progress(done, total)


def _copy(chunks: Iterable[bytes], path: Path, durable: bool) -> tuple[str, int]:
    """Write a new file; sha256 and length of what was written."""
    with path.open("xb") as file:

        def written() -> Iterator[bytes]:
            for chunk in chunks:
                file.write(chunk)
                yield chunk

        found = sha256_of(written())
        if durable:
            file.flush()
            os.fsync(file.fileno())
    return found
