"""The store protocol: durable bytes under keys, and the one primitive all else relies on, create-if-absent.

Knows nothing of logs or adapters. `create` is linearizable: of any number of racers on one key exactly one gets
True. When a reply is lost the outcome is unknown and `create` raises `Uncertain`; `create_surely` settles it.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from registry.errors import Invalid, NotFound, Unavailable
from registry.settings import Addressing, Settings

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""

MAX_KEY = 900
LARGE_BYTES = 64 << 20
"""Larger values travel in pieces, several at a time."""
RETRY_DELAYS_S = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 0.0)
_SEGMENT = re.compile(r"[A-Za-z0-9_@=+-][A-Za-z0-9._@=+-]*")


class Uncertain(Unavailable):
    """A write was sent and no answer came: it may or may not have happened."""


class Store(Protocol):
    """Keys are '/'-separated ASCII segments that do not start with a dot; values are bytes.

    Every method is safe to call from many threads. A missing key is NotFound; an unreachable store Unavailable.
    """

    @property
    def url(self) -> str: ...

    def create(self, key: str, data: bytes) -> bool:
        """Write durably if absent; False = somebody was first, and their bytes are untouched."""
        ...

    def create_file(self, key: str, path: Path) -> bool:
        """The same for a file, streamed."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Overwrite atomically. For hints only: nothing may depend on which of two writers came last."""
        ...

    def get(self, key: str) -> bytes: ...

    def chunks(self, key: str, begin: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The value, or these bytes of it, as a stream. Ranges are asked of large values only."""
        ...

    def fetch(self, key: str, path: Path) -> None:
        """Stream the value into `path`, which appears whole or not at all."""
        ...

    def exists(self, key: str) -> bool: ...

    def list(self, prefix: str, start_after: str = "") -> Iterator[str]:
        """Keys with this prefix, in lexicographic order, strictly after `start_after`."""
        ...

    def folders(self, prefix: str) -> Iterator[str]:
        """The distinct next segments below `prefix` (which ends in '/') that have keys below them, in order."""
        ...

    def delete(self, key: str) -> None:
        """Idempotent."""
        ...


def open_store(
    url: str,
    *,
    s3_endpoint: str | None = None,
    s3_region: str | None = None,
    s3_addressing: Addressing = "auto",
    s3_sse: str = "",
    s3_sse_key_id: str = "",
) -> Store:
    """`file:///dir`, `file://relative/dir` or `s3://bucket/prefix`. Opening touches nothing yet."""
    parts = urlsplit(url)
    if parts.scheme != "file" and "@" in parts.netloc:  # and what is refused is printed
        raise Invalid("the store's URL holds a user or password", hint="give them through AWS_*", param="store")
    if parts.scheme == "file":
        from registry.directory import DirectoryStore

        path = unquote(parts.netloc + parts.path)
        if not path:
            raise Invalid(f"store {url!r} names no directory", hint="write file:///absolute/dir", param="store")
        return DirectoryStore(Path(path))
    if parts.scheme == "s3":
        from registry.bucket import Bucket
        from registry.s3 import S3Store

        if not parts.netloc:
            raise Invalid(f"store {url!r} names no bucket", hint="write s3://bucket/prefix", param="store")
        return S3Store(
            Bucket(
                parts.netloc,
                parts.path.strip("/"),
                endpoint=s3_endpoint,
                region=s3_region,
                addressing=s3_addressing,
                sse=s3_sse,
                sse_key_id=s3_sse_key_id,
            )
        )
    raise Invalid(f"store {url!r} is not understood", hint="use file:///dir or s3://bucket/prefix", param="store")


def store_of(settings: Settings, url: str = "") -> Store:
    """The store the settings name, or another one reached in the same way."""
    return open_store(
        url or settings.store,
        s3_endpoint=settings.s3_endpoint,
        s3_region=settings.s3_region,
        s3_addressing=settings.s3_addressing,
        s3_sse=settings.s3_sse,
        s3_sse_key_id=settings.s3_sse_key_id,
    )


def check_key(key: str) -> str:
    """Refuse keys that could escape a root, collide with temporary files, or differ between stores."""
    if len(key) > MAX_KEY or not all(_SEGMENT.fullmatch(segment) for segment in key.split("/")):
        raise Invalid(f"not a valid store key: {key[:100]!r}")
    return key


def check_prefix(prefix: str) -> str:
    """A prefix is empty, or any beginning of a valid key."""
    if prefix:
        check_key(prefix.removesuffix("/"))
    return prefix


def create_surely(store: Store, key: str, data: bytes, *, sleep: Callable[[float], None] = time.sleep) -> bool:
    """Create, retrying with the same bytes until it is known who owns the key. True: it holds `data`.

    Raises Uncertain only when the store stays silent through every retry; Unavailable when nothing was ever sent.
    """
    uncertain = False
    for delay_s in RETRY_DELAYS_S:
        try:
            return store.create(key, data) or store.get(key) == data
        except (Unavailable, NotFound) as error:
            uncertain = uncertain or isinstance(error, Uncertain)
            if not uncertain:
                raise
            last = error
            sleep(delay_s)
    hint = "look at what is there now before you do it again"
    raise Uncertain(f"no answer from {store.url}: whether {key} was written is unknown", hint=hint) from last


def write_atomically(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a local file so that it appears whole or not at all."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        try:
            with temporary.open("xb") as file:
                for chunk in chunks:
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise Unavailable(f"cannot write {path}: {error.strerror or error}") from error
