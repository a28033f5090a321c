"""A file on this machine's disk for as long as a request lasts. Knows nothing of what is in it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import cast

from registry.errors import Unavailable


class Scratch:
    """What is appended is in the file at once: nothing is held back that a full disk could refuse later."""

    def __init__(self, file: FileIO, path: Path) -> None:
        self._file = file
        self.path = path

    def append(self, data: bytes) -> None:
        """All of it, or Unavailable."""
        left = memoryview(data)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise _no_room(error) from error


@contextmanager
def scratch() -> Iterator[Scratch]:
    """Removed at the end, however that comes. Unavailable where none can be made."""
    try:
        file = tempfile.NamedTemporaryFile(prefix="lorimer-upload-", buffering=0)  # noqa: SIM115 - closed below
    except OSError as error:
        raise _no_room(error) from error
    with file:
        yield Scratch(cast(FileIO, file), Path(file.name))


def _no_room(error: OSError) -> Unavailable:
    why = error.strerror or error
    return Unavailable(f"an upload cannot be kept here: {why}", hint="the gateway needs room in its TMPDIR")
