"""The C code of `kernel/`, compiled for this processor when the engine starts. Knows no model.

Operators with one row per adapter run at a fraction of the memory's speed, and a decoding step has hundreds of them;
the kernel walks the whole step in one call. Without a compiler there is no kernel, and the module tree does the same.
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

import torch
from torch import Tensor
from torch.nn import functional

logger = logging.getLogger("lorimer.engine")

COMPILE = ("cc", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC")
FLAGS: dict[torch.dtype, tuple[str, ...]] = {torch.bfloat16: (), torch.float32: ("-DSINGLE",)}
FEW_ROWS = 32
MAX_PARTS = 4
MAX_WIDTH = 65_536
"""Widest input or output whose float32 row the kernel keeps on its stack."""

Pointer, Word = ctypes.c_void_p, ctypes.c_int64
Words = Word * MAX_PARTS


class NativeTable(ctypes.Structure):
    """`Table` of kernel/adapter.h: where one site's packed deltas lie."""

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


@cache
def kernel(dtype: torch.dtype) -> Any | None:
    """The compiled functions for numbers of this type, or None where they cannot be had."""
    if dtype not in FLAGS:
        return None
    try:
        with as_file(files("serving") / "kernel") as sources, tempfile.TemporaryDirectory() as scratch:
            compiled = Path(scratch) / "kernel.so"
            command = [*COMPILE, *FLAGS[dtype], str(sources / "decode.c"), "-o", str(compiled), "-lm"]
            subprocess.run(command, check=True, capture_output=True, timeout=120)
            library = ctypes.CDLL(str(compiled))
    except (OSError, subprocess.SubprocessError) as error:
        logger.warning("no native kernel (%s): the module tree serves alone, more slowly", error)
        return None
    library.decode.argtypes = (Pointer, Pointer, Pointer, Word)
    library.add_adapters.argtypes = (ctypes.POINTER(NativeTable), Pointer, Word, Pointer, Word, Pointer, Word, Word)
    library.linear.argtypes = (Pointer, Word, Pointer, Word, Word, Pointer, Pointer, Word)
    for function in (library.decode, library.add_adapters, library.linear):
        function.restype = None
    return library


def describe(
    a: Tensor,
    b: Sequence[Tensor],
    ranks: Sequence[int],
    offsets: Sequence[int],
    *,
    gain: Tensor | None = None,
    bias: Tensor | None = None,
    input_gain: Tensor | None = None,
) -> NativeTable | None:
    """The table in the kernel's terms, or None if the kernel cannot serve it. The tensors must outlive it."""
    widths = [int(tensor.shape[-1]) for tensor in b]
    if a.device.type != "cpu" or len(b) > MAX_PARTS or kernel(a.dtype) is None:
        return None
    if max(*widths, a.shape[1], a.shape[2]) > MAX_WIDTH:
        return None
    return NativeTable(
        a.data_ptr(),
        a.shape[1],
        a.shape[2],
        len(b),
        (Pointer * MAX_PARTS)(*(tensor.data_ptr() for tensor in b)),
        Words(*ranks),
        Words(*offsets),
        Words(*widths),
        Words(*(sum(widths[:part]) for part in range(len(widths)))),
        address(gain),
        address(bias),
        address(input_gain),
    )


def address(tensor: Tensor | None) -> int | None:
    """Where a dense tensor begins; None stays None."""
    assert tensor is None or tensor.is_contiguous()
    return None if tensor is None else tensor.data_ptr()


def add_adapters(table: NativeTable, x: Tensor, y: Tensor, slots: Tensor) -> None:
    """y[i] += what the adapter in slots[i] makes of x[i], for the first len(slots) rows. Mutates y."""
    library = kernel(x.dtype)
    assert library is not None
    assert x.stride(1) == y.stride(1) == 1
    library.add_adapters(
        ctypes.byref(table),
        x.data_ptr(),
        x.stride(0),
        y.data_ptr(),
        y.stride(0),
        slots.data_ptr(),
        slots.shape[0],
        torch.get_num_threads(),
    )


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """x: (..., in) times weight: (out, in) -> (..., out), by the kernel where rows are so few that fetching the weight
    is what costs; the library is better at many."""
    rows = x.numel() // x.shape[-1]
    library = kernel(x.dtype) if rows <= FEW_ROWS and x.device.type == "cpu" and weight.is_contiguous() else None
    if library is None or not rows:
        return functional.linear(x, weight)
    outs = weight.shape[0]
    x, y, wide = x.contiguous(), x.new_empty(*x.shape[:-1], outs), x.new_empty(rows, outs, dtype=torch.float32)
    library.linear(
        address(x), rows, address(weight), x.shape[-1], outs, address(y), address(wide), torch.get_num_threads()
    )
    return y
