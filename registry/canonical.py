"""One byte string per value: canonical JSON (RFC 8785) and sha256. Knows nothing of what the values mean."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import msgspec
import rfc8785

from registry.errors import Invalid, Unavailable

CHUNK_BYTES = 1 << 18


def canonical(value: object) -> bytes:
    """The RFC 8785 bytes of a struct or builtin; NaN, infinities and integers beyond 2^53 are Invalid."""
    try:
        return rfc8785.dumps(msgspec.to_builtins(value))
    except (rfc8785.CanonicalizationError, TypeError) as error:
        raise Invalid(f"value has no canonical JSON form: {error}") from error


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_of(chunks: Iterable[bytes]) -> tuple[str, int]:
    """Digest and length of a stream."""
    state, size = hashlib.sha256(), 0
    for chunk in chunks:
        state.update(chunk)
        size += len(chunk)
    return state.hexdigest(), size


def sha256_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Unavailable(f"cannot read {path}: {error.strerror or error}") from error
