"""The roof's arithmetic, by hand for the base that is measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.cases import DECODE_16, DECODE_NONE, PREFILL_16, PREFILL_NONE, SINGLE_NONE
from benchmarks.roofline import Load, Shape, load_of
from serving.bench import Case
from tests.benchmarks.conftest import SMOLLM2

SHAPE = Shape.of(SMOLLM2)
BODY, HEAD, ADAPTER, PAST = 106_168_320, 28_311_552, 4_884_480, 11_520


def test_counts_the_weights_of_smollm2() -> None:
    assert (SHAPE.body, SHAPE.head, SHAPE.adapter, SHAPE.past) == (BODY, HEAD, ADAPTER, PAST)


def test_one_row_reads_every_weight_once() -> None:
    load = load_of(SINGLE_NONE, SHAPE)
    assert load.tokens == 1
    assert load.bytes == 2 * (BODY + HEAD + 48 * PAST)
    assert load.operations == 2 * (BODY + HEAD) + 4 * 30 * 9 * 64 * 48


def test_adapters_cost_bytes_each_and_operations_per_row() -> None:
    none, distinct = load_of(DECODE_NONE, SHAPE), load_of(DECODE_16, SHAPE)
    assert distinct.bytes - none.bytes == 2 * 16 * ADAPTER
    assert distinct.operations - none.operations == 16 * 2 * ADAPTER


def test_prefill_computes_the_head_once_per_row() -> None:
    load = load_of(PREFILL_NONE, SHAPE)
    assert load.tokens == 16 * 256
    pairs = 16 * 256 * 257 / 2
    assert load.operations == 2 * (4096 * BODY + 16 * HEAD) + 4 * 30 * 9 * 64 * pairs
    assert load_of(PREFILL_16, SHAPE).operations - load.operations == 2 * 4096 * ADAPTER


def test_the_slower_of_memory_and_processor_is_the_bound() -> None:
    load = Load(tokens=10, bytes=100.0, operations=1000.0)
    assert load.bound({"bytes_per_s": 100.0, "operations_per_s": 10_000.0}) == 10.0
    assert load.bound({"bytes_per_s": 10_000.0, "operations_per_s": 100.0}) == 1.0


@pytest.mark.parametrize("rows", [1, 4, 16])
def test_more_rows_are_never_bound_lower(rows: int) -> None:
    limits = {"bytes_per_s": 30e9, "operations_per_s": 300e9}
    case: Case = replace(DECODE_NONE, rows=rows)
    assert load_of(replace(case, rows=rows + 1), SHAPE).bound(limits) >= load_of(case, SHAPE).bound(limits)
