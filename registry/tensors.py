"""Safetensors files, read with distrust: the header is checked by hand before any byte of data is believed.

Knows the file format and which bit patterns are not finite; knows nothing of adapters. Needs no torch: bfloat16
and float8 are checked on their bits.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np

from registry.errors import Refused, Unavailable

MAX_HEADER_BYTES = 16 << 20
MAX_TENSORS = 100_000
CHUNK_BYTES = 4 << 20

_ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1,
    "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4,
    "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip
# A float is infinite or NaN where all these bits are set (E4M3 has no infinity: only its NaN).
_NOT_FINITE: dict[str, tuple[Any, int]] = {
    "F8_E4M3": (np.dtype("<u1"), 0x7F),
    "F8_E5M2": (np.dtype("<u1"), 0x7C),
    "F16": (np.dtype("<u2"), 0x7C00),
    "BF16": (np.dtype("<u2"), 0x7F80),
    "F32": (np.dtype("<u4"), 0x7F80_0000),
    "F64": (np.dtype("<u8"), 0x7FF0_0000_0000_0000),
}


@dataclass(frozen=True)
class TensorEntry:
    """`begin` and `end` are offsets in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_header(path: Path) -> dict[str, TensorEntry]:
    """The tensors of a safetensors file; Refused names the file and the tensor that is wrong."""
    return parse_header(path.name, *raw_header(path))


def raw_header(path: Path) -> tuple[bytes, int]:
    """The header as it is written, and the file's size: all that `parse_header` needs to know of the file."""
    try:
        with path.open("rb") as file:
            file_bytes = os.fstat(file.fileno()).st_size
            prefix = file.read(8)
            header_bytes = int.from_bytes(prefix, "little")
            if len(prefix) < 8 or header_bytes > min(MAX_HEADER_BYTES, file_bytes - 8):
                raise Refused(f"{path.name}: not a safetensors file: its header length does not fit the file")
            return file.read(header_bytes), file_bytes
    except OSError as error:
        raise Unavailable(f"cannot read {path}: {error.strerror or error}") from error


def parse_header(file_name: str, raw: bytes, file_bytes: int) -> dict[str, TensorEntry]:
    """The tensors that the header of a file of so many bytes tells of."""
    start = 8 + len(raw)
    try:
        header = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        header.pop("__metadata__", None)
        if len(header) > MAX_TENSORS:
            raise Refused(f"{file_name}: {len(header)} tensors; at most {MAX_TENSORS} are allowed")
        tensors = [_entry(file_name, name, entry, start, file_bytes) for name, entry in header.items()]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(f"{file_name}: not a safetensors file: its header is not JSON: {error}") from error
    tensors.sort(key=lambda tensor: (tensor.begin, tensor.end))
    _check_layout(file_name, tensors, start, file_bytes)
    return {tensor.name: tensor for tensor in tensors}


def check_finite(path: Path, tensors: Mapping[str, TensorEntry]) -> None:
    """Refuse the first tensor that holds an infinity or NaN; memory use is one chunk."""
    try:
        with path.open("rb") as file:
            for tensor in tensors.values():
                if tensor.dtype in _NOT_FINITE:
                    _check_finite(path.name, file, tensor)
    except OSError as error:
        raise Unavailable(f"cannot read {path}: {error.strerror or error}") from error


def _check_finite(file_name: str, file: BinaryIO, tensor: TensorEntry) -> None:
    dtype, mask = _NOT_FINITE[tensor.dtype]
    file.seek(tensor.begin)
    left = tensor.end - tensor.begin
    while left:
        data = file.read(min(left, CHUNK_BYTES))
        if not data:
            raise Refused(f"{file_name}: tensor {tensor.name} is cut short")
        left -= len(data)
        bits = np.frombuffer(data, dtype)
        if bool(((bits & mask) == mask).any()):
            raise Refused(f"{file_name}: tensor {tensor.name} holds values that are not finite")


class _RawEntry(msgspec.Struct, forbid_unknown_fields=True):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def _entry(file_name: str, name: str, raw: msgspec.Raw, start: int, file_bytes: int) -> TensorEntry:
    try:
        entry = msgspec.json.decode(raw, type=_RawEntry)
    except msgspec.ValidationError as error:
        raise Refused(f"{file_name}: tensor {name} has a bad header entry: {error}") from error
    if entry.dtype not in _ITEM_BYTES:
        raise Refused(f"{file_name}: tensor {name} has an unknown dtype {entry.dtype!r}")
    begin, end = entry.data_offsets
    if min(begin, *entry.shape, 0) < 0 or end < begin or start + end > file_bytes:
        raise Refused(f"{file_name}: tensor {name} lies outside the file")
    if math.prod(entry.shape) * _ITEM_BYTES[entry.dtype] != end - begin:
        raise Refused(f"{file_name}: tensor {name} has {end - begin} bytes, which is not its shape times its dtype")
    return TensorEntry(name, entry.dtype, entry.shape, start + begin, start + end)


def _check_layout(file_name: str, tensors: list[TensorEntry], start: int, file_bytes: int) -> None:
    """The data must be covered exactly once: no overlap, no hole, nothing after the last tensor."""
    position = start
    for tensor in tensors:
        if tensor.begin < position:
            raise Refused(f"{file_name}: tensor {tensor.name} overlaps the one before it")
        if tensor.begin > position:
            raise Refused(
                f"{file_name}: {tensor.begin - position} bytes before tensor {tensor.name} belong to no tensor"
            )
        position = tensor.end
    if position != file_bytes:
        raise Refused(f"{file_name}: {file_bytes - position} bytes after the last tensor belong to no tensor")
