"""A part of a file as the body of a request: streamed, rewound for a retry, and counted only while it is sent.

Signing reads a body once before it goes out; those reads, and those of an attempt that failed, are not progress.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


class FileSlice:
    """`num_bytes` of the file at `path`, from `begin`."""

    def __init__(self, path: Path, begin: int, num_bytes: int, sent: Callable[[int], None]) -> None:
        self._file = path.open("rb")
        self._begin = begin
        self._num_bytes = num_bytes
        self._position = 0
        self._sent = sent
        self._num_sent = 0
        self._is_sending = False
        self.seek(0)

    def read(self, size: int | None = -1) -> bytes:
        left = max(self._num_bytes - self._position, 0)
        data = self._file.read(left if size is None or size < 0 else min(size, left))
        self._position += len(data)
        if self._is_sending and data:
            self._num_sent += len(data)
            self._sent(len(data))
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = max(offset + (0, self._position, self._num_bytes)[whence], 0)
        self._file.seek(self._begin + self._position)
        return self._position

    def tell(self) -> int:
        return self._position

    def prepare(self) -> None:
        """What follows is signing, or a new attempt: what went out before went for nothing."""
        self._is_sending = False
        self._sent(-self._num_sent)
        self._num_sent = 0

    def start(self) -> None:
        """What is read from now on goes out."""
        self._is_sending = True

    def __len__(self) -> int:
        return self._num_bytes

    def __enter__(self) -> FileSlice:
        return self

    def __exit__(self, *failure: object) -> None:
        self._file.close()


def watch(events: Any) -> None:
    """Tell the slices that a client of boto3 sends when they are prepared, and when they start to go out."""
    events.register_first("request-created.s3", _prepare)
    events.register_last("request-created.s3", _start)


def _prepare(request: Any, **_: object) -> None:
    if isinstance(request.data, FileSlice):
        request.data.prepare()


def _start(request: Any, **_: object) -> None:
    if isinstance(request.data, FileSlice):
        request.data.start()
