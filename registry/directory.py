"""A directory as a store: no locks, crash-safe, safe between processes on one machine.

create: write and fsync a temporary file, `os.link` it to its name (EEXIST = somebody was first), unlink the
temporary name, fsync the parent. A crash leaves at most a stale temporary file, which no reader sees.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from registry.canonical import CHUNK_BYTES
from registry.errors import Invalid, NotFound, Unavailable
from registry.store import check_key, check_prefix, write_atomically

TEMPORARY = ".tmp"
STALE_S = 86_400.0
PLACE_ATTEMPTS = 100


class DirectoryStore:
    """Keys are paths below `root`; names that start with a dot are ours and are never listed."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()
        self.url = f"file://{self.root}"
        self._swept = False

    def create(self, key: str, data: bytes) -> bool:
        target = self._path(key)
        with self._errors("write", key), self._temporary() as (name, file):
            file.write(data)
            return self._link(name, file, target)

    def create_file(self, key: str, path: Path) -> bool:
        target = self._path(key)
        try:
            source = path.open("rb")
        except OSError as error:
            raise Unavailable(f"cannot read {path}: {error.strerror or error}") from error
        with source, self._errors("write", key), self._temporary() as (name, file):
            shutil.copyfileobj(source, file, CHUNK_BYTES)
            return self._link(name, file, target)

    def put(self, key: str, data: bytes) -> None:
        target = self._path(key)
        with self._errors("write", key), self._temporary() as (name, file):
            file.write(data)
            _sync(file)
            self._place(target, lambda: os.replace(name, target))

    def get(self, key: str) -> bytes:
        with self._errors("read", key):
            return self._path(key).read_bytes()

    def chunks(self, key: str, begin: int = 0, end: int | None = None) -> Iterator[bytes]:
        with self._errors("read", key), self._path(key).open("rb") as file:
            file.seek(begin)
            left = sys.maxsize if end is None else end - begin
            while left > 0 and (chunk := file.read(min(CHUNK_BYTES, left))):
                left -= len(chunk)
                yield chunk

    def fetch(self, key: str, path: Path) -> None:
        write_atomically(path, self.chunks(key))

    def exists(self, key: str) -> bool:
        with self._errors("read", key):
            return self._path(key).is_file()

    def list(self, prefix: str, start_after: str = "") -> Iterator[str]:
        folder, _, _ = check_prefix(prefix).rpartition("/")
        with self._errors("list", prefix):
            for key in self._walk(folder, start_after):
                if key.startswith(prefix) and key > start_after:
                    yield key

    def folders(self, prefix: str) -> Iterator[str]:
        folder = check_prefix(prefix).removesuffix("/")
        with self._errors("list", prefix):
            names = sorted(name for name, is_folder in self._entries(folder) if is_folder)
        for name in names:
            if next(self.list(f"{prefix}{name}/"), None) is not None:
                yield name

    def delete(self, key: str) -> None:
        target = self._path(key)
        with self._errors("delete", key), suppress(FileNotFoundError):
            os.unlink(target)
            _sync_directory(target.parent)
            self._prune(target.parent)

    def sweep(self) -> None:
        """Remove what writers that crashed more than a day ago left behind; done once before the first write."""
        self._swept = True
        horizon = time.time() - STALE_S
        for path in (self.root / TEMPORARY).iterdir():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < horizon:
                    path.unlink()

    def another(self) -> DirectoryStore:
        """The same place, opened anew."""
        return DirectoryStore(self.root)

    def _path(self, key: str) -> Path:
        return self.root / check_key(key)

    def _link(self, name: str, file: BinaryIO, target: Path) -> bool:
        _sync(file)
        try:
            self._place(target, lambda: os.link(name, target))
        except FileExistsError:
            if target.is_dir():
                raise
            return False
        return True

    def _place(self, target: Path, put: Callable[[], None]) -> None:
        """Put a file into its folder, durably. Again, when a delete removed the empty folder at that moment."""
        for attempt in range(PLACE_ATTEMPTS):
            try:
                self._make_parents(target)
                put()
                _sync_directory(target.parent)
                return
            except FileNotFoundError:
                if attempt == PLACE_ATTEMPTS - 1:
                    raise

    def _prune(self, folder: Path) -> None:
        """Remove folders that hold nothing any more."""
        with suppress(OSError):
            while folder != self.root:
                folder.rmdir()
                folder = folder.parent

    def _make_parents(self, target: Path) -> None:
        """Create missing folders, each durably recorded in the one above it."""
        missing = []
        folder = target.parent
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for new in reversed(missing):
            with suppress(FileExistsError):  # a racing writer's folder; a file shows itself in the next step
                os.mkdir(new)
            _sync_directory(new.parent)

    @contextmanager
    def _temporary(self) -> Iterator[tuple[str, BinaryIO]]:
        folder = self.root / TEMPORARY
        self._make_parents(folder / "file")
        if not self._swept:
            self.sweep()
        name = str(folder / secrets.token_hex(12))
        try:
            with open(name, "xb") as file:
                yield name, file
        finally:
            with suppress(FileNotFoundError):
                os.unlink(name)

    def _entries(self, folder: str, start_after: str = "") -> Iterator[tuple[str, bool]]:
        """Names and whether they are folders, without those all of whose keys come before `start_after`."""
        base = f"{folder}/" if folder else ""
        start = start_after.removeprefix(base).partition("/")[0] if start_after.startswith(base) else ""
        try:
            with os.scandir(self.root / folder) as entries:
                for entry in entries:
                    is_passed = entry.name < start and not start.startswith(entry.name)
                    if not is_passed and not entry.name.startswith("."):
                        yield entry.name, entry.is_dir()
        except (FileNotFoundError, NotADirectoryError):
            return

    def _walk(self, folder: str, start_after: str) -> Iterator[str]:
        """Keys below `folder` in key order: a folder sorts as its name plus '/', like the keys it holds."""
        base, entries = f"{folder}/" if folder else "", self._entries(folder, start_after)
        names = sorted(f"{base}{name}/" if is_folder else base + name for name, is_folder in entries)
        for name in names:
            if not name.endswith("/"):
                yield name
            elif name > start_after or start_after.startswith(name):
                yield from self._walk(name[:-1], start_after)

    @contextmanager
    def _errors(self, verb: str, key: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise NotFound(f"{key} does not exist in {self.url}") from error
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            if self.root.exists() and not self.root.is_dir():
                raise Unavailable(f"{self.root} is not a directory") from error
            if verb == "read":
                raise NotFound(f"{key} does not exist in {self.url}") from error
            raise Invalid(f"key {key} collides with another key's folder in {self.url}") from error
        except OSError as error:
            raise Unavailable(f"cannot {verb} {key} in {self.url}: {error.strerror or error}") from error


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
