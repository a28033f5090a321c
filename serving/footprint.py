"""How much memory an adapter's files will take once loaded, known from their header before anything is read."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from registry.errors import NotFound
from registry.tensors import read_header
from serving.adapter import WEIGHTS


def footprint(directory: Path, dtype: torch.dtype) -> int:
    """Bytes of the adapter's tensors in the base's `dtype`; vectors (biases, magnitudes) stay in float32."""
    path = directory / WEIGHTS
    if not path.is_file():
        raise NotFound(f"{path} does not exist")
    vector_bytes = max(dtype.itemsize, torch.float32.itemsize)
    return sum(
        math.prod(entry.shape) * (dtype.itemsize if len(entry.shape) > 1 else vector_bytes)
        for entry in read_header(path).values()
    )
