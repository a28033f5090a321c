"""The packed adapters' product in C, compiled for this processor when the engine starts. Knows no model.

`bmm` with one row per adapter runs at a fraction of the memory's speed, with one call per sibling. The kernel reads
each adapter once, in one call per site. Without a compiler there is no kernel, and the eager path does the same work.
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

logger = logging.getLogger("lorimer.engine")

COMPILE = ("cc", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC")
MAX_PARTS = 4
MAX_WIDTH = 65_536
"""Widest input or output whose float32 row the kernel keeps on its stack."""

Words = ctypes.c_int64 * MAX_PARTS


class NativeTable(ctypes.Structure):
    """`Table` of kernel.c: where one site's packed deltas lie."""

    _fields_ = (
        ("a", ctypes.c_void_p),
        ("in_features", ctypes.c_int64),
        ("total_rank", ctypes.c_int64),
        ("num_parts", ctypes.c_int64),
        ("b", ctypes.c_void_p * MAX_PARTS),
        ("rank", Words),
        ("offset", Words),
        ("out_features", Words),
        ("column", Words),
    )


@cache
def kernel() -> Any | None:
    """The compiled function, or None where it cannot be had."""
    try:
        with as_file(files("serving") / "kernel.c") as source, tempfile.TemporaryDirectory() as scratch:
            library = Path(scratch) / "kernel.so"
            subprocess.run([*COMPILE, str(source), "-o", str(library)], check=True, capture_output=True, timeout=60)
            function = ctypes.CDLL(str(library)).add_adapters
    except (OSError, subprocess.SubprocessError) as error:
        logger.warning("no native kernel (%s): the eager path serves, more slowly", error)
        return None
    pointer, word = ctypes.c_void_p, ctypes.c_int64
    function.argtypes = (ctypes.POINTER(NativeTable), pointer, word, pointer, word, pointer, word, word)
    function.restype = None
    return function


def describe(a: Tensor, b: Sequence[Tensor], ranks: Sequence[int], offsets: Sequence[int]) -> NativeTable | None:
    """The table in the kernel's terms, or None if the kernel cannot serve it. The tensors must outlive it."""
    widths = [int(tensor.shape[-1]) for tensor in b]
    if a.dtype != torch.bfloat16 or a.device.type != "cpu" or len(b) > MAX_PARTS or kernel() is None:
        return None
    if max(*widths, a.shape[1], a.shape[2]) > MAX_WIDTH:
        return None
    return NativeTable(
        a.data_ptr(),
        a.shape[1],
        a.shape[2],
        len(b),
        (ctypes.c_void_p * MAX_PARTS)(*(tensor.data_ptr() for tensor in b)),
        Words(*ranks),
        Words(*offsets),
        Words(*widths),
        Words(*(sum(widths[:part]) for part in range(len(widths)))),
    )


def add_adapters(table: NativeTable, x: Tensor, y: Tensor, slots: Tensor) -> None:
    """y[i] += what the adapter in slots[i] makes of x[i], for the first len(slots) rows. Mutates y."""
    function = kernel()
    assert function is not None
    assert x.stride(1) == y.stride(1) == 1
    function(
        ctypes.byref(table),
        x.data_ptr(),
        x.stride(0),
        y.data_ptr(),
        y.stride(0),
        slots.data_ptr(),
        slots.shape[0],
        torch.get_num_threads(),
    )
