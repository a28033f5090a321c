"""Zipf's law, as traffic."""

from __future__ import annotations

import random
from collections import Counter
from itertools import islice

import pytest

from benchmarks.zipf import draws, shares


def test_shares_fall_with_rank_and_sum_to_one() -> None:
    found = shares(2000)
    assert sum(found) == pytest.approx(1)
    assert found[0] == pytest.approx(10 * found[9]) == pytest.approx(2000 * found[1999])


def test_a_larger_exponent_is_steeper() -> None:
    assert shares(100, 1.5)[0] > shares(100, 1.0)[0] > shares(100, 0.0)[0] == pytest.approx(0.01)


def test_draws_follow_the_shares_and_repeat_with_the_seed() -> None:
    drawn = list(islice(draws(50, random.Random(3)), 20_000))
    assert drawn == list(islice(draws(50, random.Random(3)), 20_000))
    counts = Counter(drawn)
    assert set(counts) <= set(range(50))
    for rank, share in enumerate(shares(50)):
        assert counts[rank] / len(drawn) == pytest.approx(share, abs=0.01)
