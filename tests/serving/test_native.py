"""The kernel does what the eager path does, more exactly; and without a compiler the eager path serves."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from serving import native
from serving.base import Site
from serving.linear import SiteProduct
from serving.pack import Table


@pytest.fixture
def fresh_kernel() -> Iterator[None]:
    native.kernel.cache_clear()
    yield
    native.kernel.cache_clear()


def table(slots: int, outs: tuple[int, ...], ranks: tuple[int, ...], width: int = 48) -> tuple[Site, Table]:
    generator = torch.Generator().manual_seed(slots + sum(ranks))
    weight = torch.randn(sum(outs), width, generator=generator).to(torch.bfloat16)
    site = Site(0, tuple(f"part{part}" for part in range(len(outs))), weight, None, outs)
    packed = Table(site, ranks, slots)
    for tensor in (packed.a, *packed.b):
        tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.2)
    return site, packed


CASES = [
    ([0], (64,), (8,)),
    ([0, 1, 2, 3], (48, 16, 16), (4, 4, 4)),
    ([0, 0, 0], (96, 96), (3, 7)),
    ([0, 1, 1, 1, 2], (48, 16, 16), (5, 0, 1)),
    (list(range(16)), (33,), (16,)),
]


@pytest.mark.skipif(native.kernel(torch.bfloat16) is None, reason="no C compiler here")
@pytest.mark.parametrize(("slots", "outs", "ranks"), CASES)
def test_the_kernel_agrees_with_exact_arithmetic(
    slots: list[int], outs: tuple[int, ...], ranks: tuple[int, ...]
) -> None:
    _, packed = table(max(slots) + 1, outs, ranks)
    x = torch.randn(len(slots) + 2, 48).to(torch.bfloat16)
    y = torch.randn(len(slots) + 2, sum(outs)).to(torch.bfloat16)
    before = y.clone()
    assert packed.native is not None
    native.add_adapters(packed.native, x, y, torch.tensor(slots))
    expected = before.double()
    for row, slot in enumerate(slots):
        column = 0
        bottleneck = x[row].double() @ packed.a[slot].double()
        for b, rank, offset in zip(packed.b, ranks, packed.offsets, strict=True):
            added = bottleneck[offset : offset + rank] @ b[slot].double()
            expected[row, column : column + b.shape[-1]] += added
            column += b.shape[-1]
    torch.testing.assert_close(y, expected.to(torch.bfloat16), rtol=2**-7, atol=2**-7)
    assert torch.equal(y[len(slots) :], before[len(slots) :]), "rows without an adapter are not touched"


@pytest.mark.skipif(native.kernel(torch.bfloat16) is None, reason="no C compiler here")
def test_a_row_that_is_not_finite_stays_alone() -> None:
    _, packed = table(3, (64,), (8,))
    x = torch.ones(3, 48, dtype=torch.bfloat16)
    x[1, 5] = float("nan")
    y = torch.zeros(3, 64, dtype=torch.bfloat16)
    assert packed.native is not None
    native.add_adapters(packed.native, x, y, torch.arange(3))
    assert torch.isnan(y[1]).all()
    assert torch.isfinite(y[[0, 2]]).all()


@pytest.mark.skipif(native.kernel(torch.bfloat16) is None, reason="no C compiler here")
@pytest.mark.parametrize(("slots", "outs", "ranks"), CASES)
def test_the_eager_path_agrees(slots: list[int], outs: tuple[int, ...], ranks: tuple[int, ...]) -> None:
    site, packed = table(max(slots) + 1, outs, ranks)
    x = torch.randn(len(slots), 48).to(torch.bfloat16)
    width = max(slots.count(slot) for slot in slots)
    places = torch.tensor([slot * width + token - slots.index(slot) for token, slot in enumerate(slots)])
    seats = torch.zeros((max(slots) + 1) * width, dtype=torch.long)
    seats[places] = torch.arange(len(slots))
    plan = SimpleNamespace(seats=seats, seated=places, num_seated=len(slots))
    turn = SimpleNamespace(pack=SimpleNamespace(num_slots=max(slots) + 1))
    by_kernel, by_bmm = (torch.zeros(len(slots), sum(outs), dtype=torch.bfloat16) for _ in range(2))
    SiteProduct(site, turn)._add_packed(packed, plan, x, by_bmm)  # type: ignore[arg-type]
    assert packed.native is not None
    native.add_adapters(packed.native, x, by_kernel, torch.tensor(slots))
    torch.testing.assert_close(by_kernel, by_bmm, rtol=0.05, atol=0.1)


@pytest.mark.usefixtures("fresh_kernel")
def test_without_a_compiler_there_is_no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "COMPILE", ("no-such-compiler",))
    assert native.kernel(torch.bfloat16) is None
    _, packed = table(2, (64,), (8,))
    assert packed.native is None


@pytest.mark.skipif(native.kernel(torch.bfloat16) is None, reason="no C compiler here")
@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 40),
    width=st.integers(1, 130),
    outs=st.integers(1, 90),
    dtype=st.sampled_from([torch.bfloat16, torch.float32]),
)
def test_a_product_of_any_shape_is_the_librarys(rows: int, width: int, outs: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(rows * 7 + width * 3 + outs)
    x, weight = (torch.randn(count, width, generator=generator).to(dtype) for count in (rows, outs))
    expected = x.double() @ weight.double().t()
    found = native.linear(x, weight).double()
    exactness = 2**-8 if dtype == torch.bfloat16 else 1e-5
    assert float((found - expected).abs().max()) <= exactness * max(float(expected.abs().max()), 1.0)


def test_a_type_the_kernel_does_not_know() -> None:
    assert native.kernel(torch.float16) is None
