"""Memory in one piece, in large pages where the system has them. Knows nothing of what lies in it.

A step reads whole adapters from one end to the other: from large pages that goes half as fast again as from small ones.
But a large page is dear to get: it is zeroed, and on a busy host others must move out of its way first. Whoever evicts
in order to load has one in hand already. The base's weights, read once in every step, lie in one slab too.
"""

from __future__ import annotations

import ctypes
import mmap
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from weakref import finalize

import torch
from torch import Tensor

PAGE = mmap.PAGESIZE
LARGE_PAGE = 2 << 20
LINE = 64

_own = threading.local()


def slab_bytes(needed: int) -> int:
    """What a slab for so many bytes takes of the memory: whole pages."""
    return -(-needed // PAGE) * PAGE


def slab(needed: int) -> Tensor:
    """`slab_bytes(needed)` bytes, zeros unless `reusing`, which go back to the system with the last view of them.

    They begin where a large page can. What is left behind the last whole large page lies in small ones, so that no more
    is taken than is counted.
    """
    size = slab_bytes(needed)
    pages = _spare(size + LARGE_PAGE) or _new(size)
    view = memoryview(pages)
    finalize(view, _let_go, pages).atexit = False
    return torch.frombuffer(view, dtype=torch.uint8, count=size, offset=_begin(pages))


class Pieces:
    """Tensors side by side in one slab, in the order in which they come. Each has a storage of its own: what copies
    one copies no more than that."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        """Room for so many, as large as these."""
        self._memory = slab(sum(map(_lines, tensors))).numpy()
        self._taken = 0

    def take(self, *tensors: Tensor) -> Tensor:
        """A copy of these, one below the other."""
        first, rows = tensors[0], sum(tensor.shape[0] for tensor in tensors)
        count = sum(tensor.numel() for tensor in tensors)
        piece = torch.frombuffer(self._memory, dtype=first.dtype, count=count, offset=self._taken)
        self._taken += sum(map(_lines, tensors))
        return torch.cat(tensors, out=piece.view(rows, *first.shape[1:]))


def _lines(tensor: Tensor) -> int:
    """Its bytes, in whole lines of the processor's cache."""
    return -(-tensor.nbytes // LINE) * LINE


@contextmanager
def reusing() -> Iterator[None]:
    """Slabs whose last view goes away inside, on this thread, lend their pages to the next one, if it is as large."""
    _own.pages = []
    try:
        yield
    finally:
        _own.pages = None


def _new(size: int) -> mmap.mmap:
    pages = mmap.mmap(-1, size + LARGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError, AttributeError):  # a system without
        pages.madvise(mmap.MADV_NOHUGEPAGE)
        if whole := size // LARGE_PAGE * LARGE_PAGE:
            pages.madvise(mmap.MADV_HUGEPAGE, _begin(pages), whole)
    return pages


def _begin(pages: mmap.mmap) -> int:
    return -ctypes.addressof(ctypes.c_char.from_buffer(pages)) % LARGE_PAGE


def _spare(length: int) -> mmap.mmap | None:
    """Of what was let go, as much as is asked for; the rest goes back to the system."""
    spare: list[mmap.mmap] = getattr(_own, "pages", None) or []
    found = next((pages for pages in spare if len(pages) == length), None)
    spare.clear()
    return found


def _let_go(pages: mmap.mmap) -> None:
    """Nobody looks at them any more."""
    if (spare := getattr(_own, "pages", None)) is not None:
        spare.append(pages)
