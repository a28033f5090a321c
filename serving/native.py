"""The C code of `kernel/`, compiled for this processor when the engine starts. Knows no model.

A decoding step through operators is hundreds of calls, each far from the memory's speed; the kernel walks a whole step
in one. Without a compiler there is no kernel, and the module tree does the same.
"""

from __future__ import annotations

import ctypes
import logging
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from serving.base import Site
from serving.delta import Delta
from serving.finite import is_finite

logger = logging.getLogger("lorimer.engine")

COMPILE = ("cc", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC")
FLAGS: dict[torch.dtype, tuple[str, ...]] = {torch.bfloat16: (), torch.float32: ("-DSINGLE",)}
MAX_PARTS = 4
BAND = 16
"""As in kernel/band.h: rows that meet a weight together."""
MAX_WIDTH = 65_536
"""Widest input or output whose float32 row the kernel keeps on its stack."""

Pointer, Word = ctypes.c_void_p, ctypes.c_int64
Words = Word * MAX_PARTS


class NativeDelta(ctypes.Structure):
    """`Delta` of kernel/adapter.h: where one adapter's tensors for one site lie. All zeros: nothing changes there."""

    _fields_ = (
        ("a", Pointer),
        ("in_features", Word),
        ("total_rank", Word),
        ("num_parts", Word),
        ("b", Pointer * MAX_PARTS),
        ("rank", Words),
        ("offset", Words),
        ("out_features", Words),
        ("column", Words),
        ("gain", Pointer),
        ("bias", Pointer),
        ("input_gain", Pointer),
    )


_POINTERS = [
    (field.offset // ctypes.sizeof(Word), field.size // ctypes.sizeof(Word))
    for field in (NativeDelta.a, NativeDelta.b, NativeDelta.gain, NativeDelta.bias, NativeDelta.input_gain)
]
"""Which of its words are addresses: the first of some, and how many."""


class Move(ctypes.Structure):
    """`Move` of kernel/stack.c: a stored matrix's way from its file into a slab, as `adopt` would take it."""

    _fields_ = (
        ("begin", Word),
        ("item_bytes", Word),
        ("rows", Word),
        ("columns", Word),
        ("scale", ctypes.c_double),
        ("to", Word),
        ("stride", Word),
    )


@cache
def kernel(dtype: torch.dtype) -> Any | None:
    """The compiled functions for numbers of this type, or None where they cannot be had."""
    if dtype not in FLAGS:
        return None
    try:
        with as_file(files("serving") / "kernel") as sources, tempfile.TemporaryDirectory() as scratch:
            compiled = Path(scratch) / "kernel.so"
            command = [*COMPILE, *FLAGS[dtype], str(sources / "stack.c"), "-o", str(compiled), "-lm"]
            subprocess.run(command, check=True, capture_output=True, timeout=120)
            library = ctypes.CDLL(str(compiled))
    except (OSError, subprocess.SubprocessError) as error:
        logger.warning("no native kernel (%s): the module tree serves alone, more slowly", error)
        return None
    library.walk.argtypes = (Pointer, Pointer, Pointer, Word)
    library.linear.argtypes = (Pointer, Word, Pointer, Word, Word, Pointer, Pointer, Word)
    library.greatest_of.argtypes = (Pointer, Word, Word, Pointer, Word)
    library.adopt.argtypes = (Pointer, Word, Word, Word, ctypes.c_double, Pointer, Word)
    library.adopt_all.argtypes = (Pointer, Word, Pointer, Pointer)
    for function in (library.walk, library.linear, library.greatest_of):
        function.restype = None
    library.adopt.restype = library.adopt_all.restype = Word
    return library


def describe(delta: Delta, site: Site) -> NativeDelta | None:
    """The delta in the kernel's terms; None if the kernel cannot apply it. The tensors must outlive it."""
    parts = delta.parts
    if delta.replacement is not None or len(parts) > MAX_PARTS or not _fits(delta, site):
        return None
    return NativeDelta(
        address(delta.a),
        site.in_features,
        delta.a.shape[1],
        len(parts),
        (Pointer * MAX_PARTS)(*(address(part.b) for part in parts)),
        Words(*(part.rank for part in parts)),
        Words(*(part.start for part in parts)),
        Words(*(site.out_features[part.sibling] for part in parts)),
        Words(*(site.columns[part.sibling].start for part in parts)),
        address(delta.gain),
        address(delta.bias),
        address(delta.input_gain),
    )


def shifted(deltas: ctypes.Array[NativeDelta], by: int) -> ctypes.Array[NativeDelta]:
    """The same deltas of tensors that all lie so many bytes further on."""
    words = np.frombuffer(bytes(deltas), np.int64).reshape(len(deltas), -1).copy()
    for first, count in _POINTERS:
        held = words[:, first : first + count]
        held[held != 0] += by
    return type(deltas).from_buffer_copy(words.tobytes())


def _fits(delta: Delta, site: Site) -> bool:
    """Whether every tensor has the type and shape that the kernel, which checks nothing, will take it to have."""
    outs, number, single = sum(site.out_features), site.weight.dtype, torch.float32
    held: list[tuple[Tensor | None, torch.dtype, tuple[int, ...]]] = [
        (delta.a, number, (site.in_features, sum(part.rank for part in delta.parts))),
        *((part.b, number, (part.rank, site.out_features[part.sibling])) for part in delta.parts),
        (delta.gain, single, (outs,)),
        (delta.bias, single, (outs,)),
        (delta.input_gain, single, (site.in_features,)),
    ]
    return all(tensor is None or (tensor.dtype, tensor.shape) == (dtype, shape) for tensor, dtype, shape in held)


def address(tensor: Tensor | None) -> int | None:
    """Where a dense tensor begins; None stays None."""
    assert tensor is None or tensor.is_contiguous()
    return None if tensor is None else tensor.data_ptr()


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """x: (..., in) times weight: (out, in) -> (..., out), by the kernel where there is one.

    Unlike the library's, a row of the result depends on its own row of x only, to the last bit.
    """
    library = kernel(x.dtype) if x.device.type == "cpu" and weight.is_contiguous() else None
    if library is None or not x.numel():
        return functional.linear(x, weight)
    rows, outs = x.numel() // x.shape[-1], weight.shape[0]
    x, y = x.contiguous(), x.new_empty(*x.shape[:-1], outs)
    packed = x.new_empty(in_bands(rows), x.shape[-1])
    places = (address(x), rows, address(weight), x.shape[-1], outs, address(y), address(packed))
    library.linear(*places, torch.get_num_threads())
    return y


def in_bands(rows: int) -> int:
    """So many rows in whole bands, as the kernel packs them."""
    return -(-rows // BAND) * BAND


def adopt(stored: Tensor, scale: float, to: Tensor) -> bool:
    """to: (columns, rows) = stored: (rows, columns), transposed, scaled and rounded once. Whether all of it is finite.

    `to` may be some columns of a wider matrix. Without a kernel for these two the library does the same.
    """
    library = kernel(to.dtype) if stored.dtype in FLAGS and stored.device.type == to.device.type == "cpu" else None
    if library is None or not stored.is_contiguous() or to.stride(1) != 1:
        exact = stored if stored.dtype == to.dtype else stored.float()  # half times half is rounded to half
        torch.mul(exact.t(), scale, out=to) if to.is_contiguous() else to.copy_(exact.t() * scale)
        return is_finite(to)
    rows, columns = stored.shape
    places = stored.data_ptr(), stored.itemsize, rows, columns, scale, to.data_ptr(), to.stride(0)
    return bool(library.adopt(*places))


def greatest(rows: Sequence[Tensor]) -> list[int] | None:
    """The place of the greatest number of each of some rows (width,), the first of equals; -1 where a number is NaN.

    None where there is no kernel for these rows.
    """
    library = kernel(rows[0].dtype) if rows[0].device.type == "cpu" else None
    if library is None:
        return None
    places = (Word * len(rows))()
    pointers = (Pointer * len(rows))(*(address(row) for row in rows))
    library.greatest_of(pointers, len(rows), len(rows[0]), places, torch.get_num_threads())
    return list(places)
