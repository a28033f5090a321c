"""Local folders that appear whole or not at all, and temporary ones that borrow files from elsewhere.

Knows nothing of adapters.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from registry.canonical import CHUNK_BYTES
from registry.errors import Conflict, Refused, Unavailable

STALE_S = 86_400.0


@contextmanager
def appearing(directory: Path) -> Iterator[Path]:
    """A temporary folder beside `directory`, which becomes it at the end; Conflict where something is there already."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise Conflict(f"{directory} exists and is not an empty folder", hint="name a new one")
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
        try:
            yield temporary
            temporary.chmod(0o755)
            temporary.rename(directory)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise Conflict(f"{directory} was filled by somebody else meanwhile") from error
        raise Unavailable(f"cannot write {directory}: {error.strerror or error}") from error


@contextmanager
def staged(files: Mapping[str, Path], scratch: Path) -> Iterator[Path]:
    """A temporary folder below `scratch` that holds `files` under their names; gone afterwards.

    Hard links where the file system allows it, else copies. Links are not followed: resolve and check paths before.
    """
    with temporary_folder(scratch) as folder:
        try:
            for name, path in files.items():
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                _borrow(path, target)
        except OSError as error:
            raise Unavailable(f"cannot read {error.filename}: {error.strerror or error}") from error
        yield folder


@contextmanager
def temporary_folder(scratch: Path) -> Iterator[Path]:
    """A new folder below `scratch`, gone afterwards; those that crashed processes left a day ago go too."""
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        _sweep(scratch)
        folder = Path(tempfile.mkdtemp(prefix="folder-", dir=scratch))
    except OSError as error:
        raise Unavailable(f"cannot write below {scratch}: {error.strerror or error}") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _borrow(path: Path, target: Path) -> None:
    try:
        os.link(path, target, follow_symlinks=False)
    except OSError:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "rb") as source, target.open("xb") as file:
            shutil.copyfileobj(source, file, CHUNK_BYTES)
    if not stat.S_ISREG(target.lstat().st_mode):
        raise Refused(f"{path} is not a regular file")


def _sweep(scratch: Path) -> None:
    horizon = time.time() - STALE_S
    for folder in scratch.glob("folder-*"):
        with suppress(FileNotFoundError):
            if folder.stat().st_mtime < horizon:
                shutil.rmtree(folder, ignore_errors=True)
