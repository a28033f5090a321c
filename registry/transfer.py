"""Large files between a local disk and a store: hashed on their way, never whole in memory, resumed where they broke.

Knows keys, paths and sha256s; nothing of versions or logs. Uploads go to keys that are the caller's alone.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from pathlib import Path
from threading import Lock
from typing import Protocol, runtime_checkable

from registry.canonical import CHUNK_BYTES, sha256_of
from registry.errors import Corrupt
from registry.manifest import FileEntry
from registry.store import LARGE_BYTES, Progress, Store, Uncertain

RETRY_DELAYS_S = (0.25, 0.5, 1.0)
REPORT_BYTES = 1 << 18
SLICE_BYTES = 8 << 20
PARALLEL = 4


class Meter:
    """Bytes done of a known total, told to whoever watches. Safe for threads.

    Work that handles every byte in several passes (sent, then read back) counts each for its share.
    """

    def __init__(self, total: int, progress: Progress | None, *, passes: int = 1) -> None:
        self.done = 0
        self._total = total
        self._progress = progress
        self._passes = passes
        self._told = 0
        self._lock = Lock()

    def add(self, num_bytes: int) -> None:
        """Negative when bytes must be sent again."""
        with self._lock:
            self.done += num_bytes
            done = self.done // self._passes
            if self._progress is not None and (abs(done - self._told) >= REPORT_BYTES or done == self._total):
                self._told = done
                self._progress(done, self._total)

    def over(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The same chunks, counted as they pass."""
        for chunk in chunks:
            self.add(len(chunk))
            yield chunk


@runtime_checkable
class Uploader(Protocol):
    """A store that tells how an upload proceeds, and continues one that broke off."""

    def upload(self, key: str, path: Path, sha256: str, sent: Callable[[int], None]) -> bool:
        """Like `create_file`, but a key that exists is fine. True when the server itself checked the sha256."""
        ...

    def unfinished(self, prefix: str) -> Iterator[str]:
        """Keys with this prefix whose upload broke off: an upload to such a key sends what is missing."""
        ...


def begun(store: Store, prefix: str, size: int) -> Iterator[str]:
    """Keys with this prefix where an upload of this size ended, or broke off. Small ones are not worth the search."""
    if size > LARGE_BYTES:
        yield from store.list(prefix)
        if isinstance(store, Uploader):
            yield from store.unfinished(prefix)


def upload(
    store: Store, key: str, path: Path, entry: FileEntry, meter: Meter, *, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Store the file under `key`, which nobody else writes; Corrupt unless the store then holds exactly `entry`.

    A meter for this has two passes: bytes sent, bytes known to have arrived.
    """
    if _send(store, key, path, entry, meter, sleep=sleep):
        meter.add(entry.size)
        return
    found = sha256_of(meter.over(store.chunks(key)))
    if found != (entry.sha256, entry.size):
        meter.add(-entry.size - found[1])
        raise Corrupt(
            f"{entry.path} is not what was validated: {key} holds {found[1]} bytes with sha256 {found[0]}",
            hint="the file changed while it was uploaded, or the store damaged it; push again",
        )


def download(store: Store, key: str, path: Path, size: int, meter: Meter, *, durable: bool = True) -> tuple[str, int]:
    """Write the value, believed to have `size` bytes, to a new file; the sha256 and length of what was written.

    Without `durable`, a power cut may leave a damaged file.
    """
    with path.open("x+b", buffering=0) as file:
        if size > LARGE_BYTES:
            found = _in_slices(store, key, file, size, meter)
        else:
            found = sha256_of(_written(meter.over(store.chunks(key)), file, 0))
        if durable:
            os.fsync(file.fileno())
    return found


def _in_slices(store: Store, key: str, file: FileIO, size: int, meter: Meter) -> tuple[str, int]:
    """Slices arrive in any order; each is hashed as soon as all before it are, from what was written."""

    def fetch(begin: int) -> int:
        chunks = meter.over(store.chunks(key, begin, min(begin + SLICE_BYTES, size)))
        return begin + sum(len(chunk) for chunk in _written(chunks, file, begin))

    state, hashed = hashlib.sha256(), 0
    with ThreadPoolExecutor(PARALLEL, thread_name_prefix="download") as pool:
        for end in pool.map(fetch, range(0, size, SLICE_BYTES)):
            while data := os.pread(file.fileno(), max(min(CHUNK_BYTES, end - hashed), 0), hashed):
                state.update(data)
                hashed += len(data)
    return state.hexdigest(), hashed


def _send(
    store: Store, key: str, path: Path, entry: FileEntry, meter: Meter, *, sleep: Callable[[float], None]
) -> bool:
    """Whether the server vouches for the bytes. After a lost reply, 'already there' is success: the key is ours."""
    for delay_s in (*RETRY_DELAYS_S, None):
        counted = Meter(entry.size, None)

        def sent(num_bytes: int, counted: Meter = counted) -> None:
            counted.add(num_bytes)
            meter.add(num_bytes)

        try:
            vouched = _send_once(store, key, path, entry.sha256, sent)
        except Uncertain as error:
            meter.add(-counted.done)
            if delay_s is None:
                error.hint = error.hint or "push again: what arrived of a large file is not sent twice"
                raise
            sleep(delay_s)
        else:
            meter.add(entry.size - counted.done)
            return vouched
    raise AssertionError("the last attempt returns or raises")


def _send_once(store: Store, key: str, path: Path, sha256: str, sent: Callable[[int], None]) -> bool:
    if isinstance(store, Uploader):
        return store.upload(key, path, sha256, sent)
    store.create_file(key, path)
    return False


def _written(chunks: Iterable[bytes], file: FileIO, position: int) -> Iterator[bytes]:
    """The same chunks, each after all of it was written: a disk that fills up may take a part without a word."""
    for chunk in chunks:
        left = memoryview(chunk)
        while left:
            written = os.pwrite(file.fileno(), left, position)
            left, position = left[written:], position + written
        yield chunk
