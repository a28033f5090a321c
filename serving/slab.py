"""Memory in one piece, in large pages where the system has them. Knows nothing of what lies in it.

A step reads whole adapters from one end to the other: from large pages that goes half as fast again as from small ones.
"""

from __future__ import annotations

import ctypes
import mmap
from contextlib import suppress

import torch
from torch import Tensor

PAGE = mmap.PAGESIZE
LARGE_PAGE = 2 << 20


def slab_bytes(needed: int) -> int:
    """What a slab for so many bytes takes of the memory: whole pages."""
    return -(-needed // PAGE) * PAGE


def slab(needed: int) -> Tensor:
    """`slab_bytes(needed)` zeros, which go back to the system with the last tensor that looks at them.

    They begin where a large page can. What is left behind the last whole large page lies in small ones, so that no more
    is taken than is counted.
    """
    size = slab_bytes(needed)
    pages = mmap.mmap(-1, size + LARGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    begin = -ctypes.addressof(ctypes.c_char.from_buffer(pages)) % LARGE_PAGE
    whole = size // LARGE_PAGE * LARGE_PAGE
    with suppress(OSError, AttributeError):  # a system without
        pages.madvise(mmap.MADV_NOHUGEPAGE)
        if whole:
            pages.madvise(mmap.MADV_HUGEPAGE, begin, whole)
    return torch.frombuffer(pages, dtype=torch.uint8, count=size, offset=begin)
