"""Snapshots in a Hugging Face Hub cache: folders of links into the cache's own blobs, which are named by their hash.

    <cache>/models--org--name/snapshots/<revision>/adapter_config.json -> ../../blobs/<git sha1 or sha256>
    <cache>/models--org--name/blobs/<sha256>  (a file, or a link to <cache>/blobs/<2 hex>/<hash>)
    <cache>/models--org--name/refs/main       (a revision)

Follows links only to those two `blobs` folders, and checks that a blob has the hash it is named by. Downloads nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from registry.canonical import CHUNK_BYTES, sha256_file
from registry.errors import Corrupt, NotFound, Refused, Unavailable

_REPOSITORY = re.compile(r"models--[A-Za-z0-9._-]+")
_REVISION = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Snapshot:
    """One revision of one repository in a cache."""

    repository: Path
    revision: str

    @property
    def directory(self) -> Path:
        return self.repository / "snapshots" / self.revision

    @property
    def source(self) -> str:
        """`org/name@revision`, as the Hub writes it."""
        return f"{self.repository.name.removeprefix('models--').replace('--', '/')}@{self.revision}"

    def resolve(self, link: Path) -> Path:
        """The blob that a file of this snapshot stands for, its hash checked. Refused if it lies anywhere else."""
        allowed = [self.repository / "blobs", self.repository.parent / "blobs"]
        try:
            named = link.parent.resolve() / os.readlink(link)
            target = link.resolve(strict=True)
        except (OSError, RuntimeError) as error:
            raise Unavailable(f"{link} leads nowhere", hint="download the snapshot again") from error
        if not any(target.is_relative_to(folder.resolve()) for folder in allowed):
            raise Refused(f"{link.name} leads to {target}, outside the blobs of {self.repository}")
        _check_name(target, named.name)
        return target


def find_snapshot(directory: Path) -> Snapshot | None:
    """The snapshot that `directory` is, or the main one of the repository that it is; None for any other folder."""
    folder = directory.resolve()
    if _REPOSITORY.fullmatch(folder.name) and (folder / "snapshots").is_dir():
        return Snapshot(folder, _revision_of_main(folder))
    repository = folder.parent.parent
    is_snapshot = folder.parent.name == "snapshots" and _REVISION.fullmatch(folder.name)
    return Snapshot(repository, folder.name) if is_snapshot and _REPOSITORY.fullmatch(repository.name) else None


def _revision_of_main(repository: Path) -> str:
    try:
        revision = (repository / "refs" / "main").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        revision = ""
    if _REVISION.fullmatch(revision) and (repository / "snapshots" / revision).is_dir():
        return revision
    there = ", ".join(sorted(path.name for path in (repository / "snapshots").iterdir())) or "none"
    raise NotFound(f"{repository} does not say which snapshot is main", hint=f"name one of its snapshots: {there}")


def _check_name(blob: Path, name: str) -> None:
    """Large files are named by their sha256, small ones by git's hash of them; other names promise nothing."""
    if re.fullmatch(r"[0-9a-f]{64}", name):
        found = sha256_file(blob)
    elif re.fullmatch(r"[0-9a-f]{40}", name):
        found = _git_hash(blob)
    else:
        return
    if found != name:
        raise Corrupt(f"{blob} is damaged: it should have the hash {name}", hint="download the snapshot again")


def _git_hash(blob: Path) -> str:
    try:
        with blob.open("rb") as file:
            state = hashlib.sha1(b"blob %d\0" % os.fstat(file.fileno()).st_size, usedforsecurity=False)
            while chunk := file.read(CHUNK_BYTES):
                state.update(chunk)
    except OSError as error:
        raise Unavailable(f"cannot read {blob}: {error.strerror or error}") from error
    return state.hexdigest()
