"""Memory in one piece: as much as is counted, in large pages, gone with whoever looks at it last."""

from __future__ import annotations

import copy
import sys
import threading
from pathlib import Path

import pytest
import torch

from serving.slab import LARGE_PAGE, LINE, PAGE, Pieces, reusing, slab, slab_bytes

SWITCH = Path("/sys/kernel/mm/transparent_hugepage/enabled")
needs_large_pages = pytest.mark.skipif(
    not SWITCH.exists() or "[never]" in SWITCH.read_text(), reason="no large pages here"
)


def anonymous() -> dict[str, int]:
    """Bytes of our own memory, and those of them in large pages."""
    lines = (line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:])
    return {name.removesuffix(":"): int(size) * 1024 for name, size, *_ in lines}


@pytest.mark.parametrize("needed", [1, PAGE, PAGE + 1, LARGE_PAGE, 3 * LARGE_PAGE + 5])
def test_a_slab_is_whole_pages_of_zeros(needed: int) -> None:
    held = slab(needed)
    assert len(held) == slab_bytes(needed)
    assert 0 <= len(held) - needed < PAGE
    assert held.data_ptr() % LARGE_PAGE == 0
    assert not held.any()


@needs_large_pages
def test_what_is_taken_is_what_is_counted_and_goes_back_with_the_last_view() -> None:
    needed, count = 3 * LARGE_PAGE + 40 * PAGE, 8
    before = anonymous()
    held = [slab(needed).fill_(1) for _ in range(count)]
    taken = anonymous()
    assert taken["Anonymous"] - before["Anonymous"] == pytest.approx(count * needed, rel=0.02)
    if taken["AnonHugePages"] == before["AnonHugePages"]:
        pytest.skip("the system has no large page left")
    assert taken["AnonHugePages"] - before["AnonHugePages"] <= count * 3 * LARGE_PAGE
    views = [each[5:9] for each in held]
    del held
    assert anonymous()["Anonymous"] >= taken["Anonymous"] - LARGE_PAGE, "a view keeps its slab"
    assert all(torch.equal(view, torch.ones(4, dtype=torch.uint8)) for view in views)
    del views
    assert anonymous()["Anonymous"] < before["Anonymous"] + needed


def test_pieces_lie_side_by_side_and_each_is_a_storage_of_its_own() -> None:
    given = [
        torch.randn(rows, 3).to(dtype) for rows, dtype in ((5, torch.float32), (7, torch.bfloat16), (2, torch.bfloat16))
    ]
    pieces = Pieces(given)
    first, second = pieces.take(given[0]), pieces.take(given[1], given[2])
    assert torch.equal(first, given[0])
    assert torch.equal(second, torch.cat(given[1:]))
    assert first.data_ptr() % LARGE_PAGE == 0
    assert second.data_ptr() - first.data_ptr() == LINE
    assert copy.deepcopy(second).untyped_storage().nbytes() == second.nbytes
    del pieces, first
    assert torch.equal(second, torch.cat(given[1:])), "a piece keeps the slab"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_nobody_touched_takes_nothing() -> None:
    before = anonymous()["Anonymous"]
    held = slab(64 * LARGE_PAGE)
    assert anonymous()["Anonymous"] - before < LARGE_PAGE
    assert len(held) == 64 * LARGE_PAGE


def test_what_is_let_go_is_reused_by_the_next_as_large() -> None:
    with reusing():
        held = slab(5 * PAGE).fill_(7)
        view = held[:3]
        del held
        assert not slab(5 * PAGE).any(), "a view is still there"
        del view
        assert not slab(6 * PAGE).any(), "another size; what was let go before goes back to the system"
        held = slab(5 * PAGE).fill_(8)
        place = held.data_ptr()
        del held
        again = slab(5 * PAGE)
        assert again.data_ptr() == place
        assert again.all()


def test_nothing_is_kept_outside_nor_by_another_thread() -> None:
    with reusing():
        held = [slab(5 * PAGE).fill_(7)]
        thread = threading.Thread(target=held.clear)
        thread.start()
        thread.join()
        assert not slab(5 * PAGE).any()
    slab(5 * PAGE).fill_(7)
    with reusing():
        assert not slab(5 * PAGE).any()
