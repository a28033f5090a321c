"""The kernel's product is the library's, for any shape; its deltas are exact; and without a compiler there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from serving import native
from serving.base import Site
from serving.delta import Delta, Part


@pytest.fixture
def fresh_kernel() -> Iterator[None]:
    native.kernel.cache_clear()
    yield
    native.kernel.cache_clear()


needs_compiler = pytest.mark.skipif(native.kernel(torch.bfloat16) is None, reason="no C compiler here")
WIDTHS = st.one_of(st.integers(1, 130), st.integers(1, 20).map(lambda steps: 32 * steps))
"""Any, and those whose rows go by bands."""
Shapes = {"rows": st.integers(1, 70), "width": WIDTHS, "outs": st.integers(1, 90)}
TYPES = st.sampled_from([torch.bfloat16, torch.float32])


def drawn(rows: int, width: int, outs: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(rows * 7 + width * 3 + outs)
    x, weight = (torch.randn(count, width, generator=generator).to(dtype) for count in (rows, outs))
    return x, weight


@needs_compiler
@settings(max_examples=60, deadline=None)
@given(**Shapes, dtype=TYPES)
def test_a_product_of_any_shape_is_the_librarys(rows: int, width: int, outs: int, dtype: torch.dtype) -> None:
    x, weight = drawn(rows, width, outs, dtype)
    expected = x.double() @ weight.double().t()
    found = native.linear(x, weight).double()
    exactness = 2**-8 if dtype == torch.bfloat16 else 1e-5
    assert float((found - expected).abs().max()) <= exactness * max(float(expected.abs().max()), 1.0)


@needs_compiler
@settings(max_examples=30, deadline=None)
@given(**Shapes, dtype=TYPES)
def test_a_row_of_a_product_knows_nothing_of_the_others(rows: int, width: int, outs: int, dtype: torch.dtype) -> None:
    x, weight = drawn(rows, width, outs, dtype)
    together = native.linear(x, weight)
    for row in range(rows):
        assert torch.equal(native.linear(x[row : row + 1], weight)[0], together[row])


LIMITED = """
import torch
from serving import native
torch.set_num_threads(2)
for dtype in (torch.bfloat16, torch.float32):
    x, weight = torch.ones(64, 64, dtype=dtype), torch.ones(40, 64, dtype=dtype)
    assert torch.equal(native.linear(x, weight), torch.full((64, 40), 64, dtype=dtype)), dtype
"""


@needs_compiler
def test_fewer_threads_than_asked_for_leave_no_row_out() -> None:
    """Shares were once those of the threads asked for: where the system gave one, half the rows were noise."""
    limited = {**os.environ, "OMP_THREAD_LIMIT": "1"}
    subprocess.run([sys.executable, "-c", LIMITED], env=limited, check=True, timeout=120)


@needs_compiler
def test_a_row_that_is_not_finite_stays_alone() -> None:
    x, weight = drawn(6, 48, 20, torch.bfloat16)
    x[1, 5] = float("nan")
    y = native.linear(x, weight)
    assert torch.isnan(y[1]).all()
    assert torch.isfinite(y[[0, 2, 3, 4, 5]]).all()


@needs_compiler
@settings(deadline=None)
@given(rows=st.integers(1, 20), width=st.integers(1, 70), seed=st.integers(0, 99), dtype=TYPES)
def test_the_greatest_number_of_a_row_is_the_first_of_equals(
    rows: int, width: int, seed: int, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(-5, 5, (rows, width), generator=generator).to(dtype)
    x[torch.rand(rows, width, generator=generator) < 0.005] = float("nan")
    expected = [-1 if row.isnan().any() else int((row == row.max()).nonzero()[0]) for row in x]
    assert native.greatest(list(x)) == expected


@needs_compiler
@settings(max_examples=100, deadline=None)
@given(
    rows=st.integers(1, 70),
    columns=st.integers(1, 70),
    beside=st.integers(0, 5),
    scale=st.sampled_from([1.0, 0.3, -2.0, 16.0]),
    types=st.tuples(st.sampled_from([torch.bfloat16, torch.float16, torch.float32]), TYPES),
)
def test_a_stored_matrix_is_adopted_as_the_library_would(
    rows: int, columns: int, beside: int, scale: float, types: tuple[torch.dtype, torch.dtype]
) -> None:
    """To the last bit, and nothing beside it is touched."""
    stored, dtype = types
    matrix, _ = drawn(rows, columns, 1, stored)
    held = torch.full((columns, rows + 2 * beside), 7.0, dtype=dtype)
    assert native.adopt(matrix, scale, held[:, beside : beside + rows])
    assert torch.equal(held[:, beside : beside + rows], (matrix.float() * scale).t().to(dtype))
    assert (held[:, :beside] == 7).all()
    assert (held[:, beside + rows :] == 7).all()


@needs_compiler
@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 40), columns=st.integers(1, 40), seed=st.integers(0, 999), dtype=TYPES, data=st.data())
def test_what_is_not_finite_is_not_adopted(
    rows: int, columns: int, seed: int, dtype: torch.dtype, data: st.DataObject
) -> None:
    """Wherever it stands; a number that only the narrower type cannot hold among them."""
    matrix = torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed))
    place = data.draw(st.integers(0, matrix.numel() - 1))
    bad = data.draw(st.sampled_from([float("inf"), float("-inf"), float("nan"), 3.4e38]))
    matrix.view(-1)[place] = bad
    fits = bad == 3.4e38 and dtype == torch.float32
    assert native.adopt(matrix, 1.0, torch.empty(columns, rows, dtype=dtype)) is fits


def delta(site: Site, replacement: torch.Tensor | None = None) -> Delta:
    a = torch.zeros(site.in_features, 5)
    parts = (Part(0, 0, 2, torch.zeros(2, 8)), Part(2, 2, 5, torch.zeros(3, 6)))
    return Delta(a, parts, gain=torch.ones(18), replacement=replacement)


def test_a_delta_is_described_where_its_tensors_lie() -> None:
    site = Site(0, ("q", "k", "v"), torch.zeros(18, 12), None, (8, 4, 6))
    found = native.describe(held := delta(site), site)
    assert found is not None
    assert (found.a, found.gain, found.bias) == (held.a.data_ptr(), held.gain.data_ptr(), None)  # type: ignore[union-attr]
    assert (found.in_features, found.total_rank, found.num_parts) == (12, 5, 2)
    assert list(found.rank) == [2, 3, 0, 0]
    assert list(found.offset) == [0, 2, 0, 0]
    assert list(found.column) == [0, 12, 0, 0]
    assert list(found.out_features) == [8, 6, 0, 0]


def test_deltas_move_with_their_tensors() -> None:
    """Every address that there is, and nothing else."""
    site = Site(0, ("q", "k", "v"), torch.zeros(18, 12), None, (8, 4, 6))
    found = native.describe(delta(site), site)
    assert found is not None
    moved = native.shifted((native.NativeDelta * 2)(found), 4096)
    for name, *_ in native.NativeDelta._fields_:
        was, now = getattr(found, name), getattr(moved[0], name)
        if name in ("a", "gain"):
            assert now == was + 4096
        elif name == "b":
            assert list(now) == [was[0] + 4096, was[1] + 4096, None, None]
        elif name in ("bias", "input_gain"):
            assert now is was is None
        else:
            assert now == was if isinstance(was, int) else list(now) == list(was)
    assert not any(bytes(moved[1]))


def test_a_replaced_weight_is_not_the_kernels_to_apply() -> None:
    site = Site(0, ("q", "k", "v"), torch.zeros(18, 12), None, (8, 4, 6))
    assert native.describe(delta(site, replacement=torch.zeros(18, 12)), site) is None


@pytest.mark.usefixtures("fresh_kernel")
def test_without_a_compiler_the_library_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "COMPILE", ("no-such-compiler",))
    assert native.kernel(torch.bfloat16) is None
    x, weight = drawn(3, 16, 8, torch.bfloat16)
    assert torch.equal(native.linear(x, weight), torch.nn.functional.linear(x, weight))


def test_a_type_the_kernel_does_not_know() -> None:
    assert native.kernel(torch.float16) is None
