from __future__ import annotations

from typing import Any

import pytest

from registry.tuning import TuneJob
from trainer.extent import split_of, train_of
from trainer.spec import Train


def extent(rows: int, length: int = 100, *, is_warm: bool = False, **asked: Any) -> Train:
    job = TuneJob(adapter="a", training_file="file-1", **asked)
    return train_of(job, [length] * rows, 0.8, max_len=2048, is_warm=is_warm)


@pytest.mark.parametrize(
    ("rows", "epochs"), [(10, 25), (60, 8), (200, 3), (1000, 3), (1600, 2), (3000, 1), (100_000, 1)]
)
def test_a_small_file_is_read_more_often_than_a_large_one(rows: int, epochs: int) -> None:
    assert extent(rows).epochs == epochs


def test_a_large_file_is_not_held_out_by_the_tenth() -> None:
    assert (split_of(40).val, split_of(40).test) == (0.1, 0.1)
    assert split_of(100_000).test * 100_000 == pytest.approx(500)


def test_what_is_asked_is_done() -> None:
    asked = extent(10, epochs=1, batch_size=4, learning_rate_multiplier=0.1)
    assert (asked.epochs, asked.tokens_per_step) == (1, 400)
    assert asked.lr == pytest.approx(Train().lr * 0.1)
    assert extent(10, length=2, batch_size=1).tokens_per_step == 16, "what a step holds at least"


def test_a_warm_start_is_gentler_unless_told_otherwise() -> None:
    assert extent(10, is_warm=True).lr == Train().lr / 2
    assert extent(10, is_warm=True, learning_rate_multiplier=1.0).lr == Train().lr
    assert extent(10).max_len == 2048
