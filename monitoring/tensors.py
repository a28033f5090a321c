"""Named arrays and a string map as safetensors bytes, and back. Knows the container, not what is in it."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from registry.errors import Corrupt

MAX_HEADER_BYTES = 64 << 20
_ENTRY = "lorimer"


def pack(arrays: Mapping[str, npt.NDArray[np.generic]], metadata: Mapping[str, str]) -> bytes:
    """Serialise `arrays` with `metadata`; equal input gives equal bytes."""
    contiguous = {name: np.ascontiguousarray(array) for name, array in sorted(arrays.items())}
    # One entry, because the library writes several in a random order.
    return save(contiguous, metadata={_ENTRY: json.dumps(dict(metadata), sort_keys=True)})


def unpack(data: bytes, what: str) -> tuple[dict[str, npt.NDArray[np.generic]], dict[str, str]]:
    """Read arrays and metadata; Corrupt names `what` when the bytes are not whole."""
    try:
        size = int.from_bytes(data[:8], "little")
        if not 2 <= size <= min(len(data) - 8, MAX_HEADER_BYTES):
            raise Corrupt(f"{what} is not a whole safetensors object")
        metadata = json.loads(json.loads(data[8 : 8 + size])["__metadata__"][_ENTRY])
        return load(data), dict(metadata)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"{what} cannot be read: {error}") from error
