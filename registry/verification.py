"""Checked reading: hash every stored object of an adapter again, and fetch versions into local folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from registry.canonical import sha256_of
from registry.errors import Corrupt, NotFound, Refused
from registry.folders import appearing
from registry.log import Log
from registry.manifest import FileEntry, digest, is_safe_path
from registry.ops import Op
from registry.store import Progress, Store
from registry.transfer import REPORT_BYTES, Meter, download
from registry.versions import AdapterState, Version, Violation


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was read and found whole."""

    adapter: str
    num_events: int
    head: str
    num_versions: int
    num_blobs: int
    num_bytes: int
    violations: tuple[Violation, ...]
    """Events that broke the rules of their time, and so changed nothing."""


def verify(store: Store, log: Log[Op, AdapterState], progress: Progress | None = None) -> Report:
    """Hash chain, manifests and blobs; Corrupt names the first object that is not what was written."""
    position = log.verify()
    versions = position.state.versions
    for version in versions:
        if digest(version.manifest) != version.digest:
            raise Corrupt(f"{version.name}: its manifest does not have the digest {version.digest}")
    blobs = _blobs(versions)
    meter = Meter(sum(entry.size for _, entry in blobs.values()), progress)
    for key, (version, entry) in blobs.items():
        try:
            found = sha256_of(meter.over(store.chunks(key)))
        except NotFound as error:
            raise Corrupt(f"{key} is missing ({version.name}, {entry.path})") from error
        if found != (entry.sha256, entry.size):
            raise Corrupt(f"{key} is damaged ({version.name}, {entry.path})")
    return Report(
        adapter=position.state.adapter,
        num_events=position.n,
        head=position.head,
        num_versions=len(versions),
        num_blobs=len(blobs),
        num_bytes=sum(entry.size for _, entry in blobs.values()),
        violations=position.state.violations,
    )


def fetch_into(
    store: Store, version: Version, directory: Path, progress: Progress | None = None, *, durable: bool = True
) -> None:
    """Fetch every file into a new folder, which appears whole or not at all; bytes are hashed on their way.

    Without `durable`, a power cut may leave damaged files behind: for a cache that checks before every use.
    """
    with appearing(directory) as folder:
        meter = Meter(version.manifest.num_bytes, progress)
        for entry in version.manifest.files:
            if not is_safe_path(entry.path):
                raise Refused(f"{version.name} holds a file with an unsafe name: {entry.path[:200]!r}")
            path = folder / entry.path
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                found = download(store, version.blob_key(entry.sha256), path, entry.size, meter, durable=durable)
            except NotFound as error:
                raise Corrupt(f"a blob of {version.name} is missing in the store ({entry.path})") from error
            if found != (entry.sha256, entry.size):
                hint = "lorimer registry verify names it"
                raise Corrupt(f"a blob of {version.name} is damaged in the store ({entry.path})", hint=hint)


def check_files(version: Version, directory: Path, progress: Progress | None = None) -> bool:
    """Whether a local folder holds exactly the bytes of a version."""
    meter = Meter(version.manifest.num_bytes, progress)
    for entry in version.manifest.files:
        try:
            with (directory / entry.path).open("rb") as file:
                if sha256_of(meter.over(iter(lambda: file.read(REPORT_BYTES), b""))) != (entry.sha256, entry.size):
                    return False
        except OSError:
            return False
    return True


def _blobs(versions: Sequence[Version]) -> dict[str, tuple[Version, FileEntry]]:
    """Every stored blob by its key, with the first version that needs it: versions share blobs."""
    blobs: dict[str, tuple[Version, FileEntry]] = {}
    for version in versions:
        for entry in version.manifest.files:
            blobs.setdefault(version.blob_key(entry.sha256), (version, entry))
    return blobs
