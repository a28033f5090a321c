"""Who is asked how often: Zipf's law, rank r with a weight of 1 / r ** exponent."""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Iterator
from itertools import accumulate


def shares(count: int, exponent: float = 1.0) -> list[float]:
    """The share of the traffic that each rank gets, the most popular first."""
    weights = [1.0 / rank**exponent for rank in range(1, count + 1)]
    total = sum(weights)
    return [weight / total for weight in weights]


def draws(count: int, rng: random.Random, exponent: float = 1.0) -> Iterator[int]:
    """Ranks from 0, without end. With the same random generator, a smaller count sees the same luck."""
    edges = list(accumulate(shares(count, exponent)))
    while True:
        yield min(bisect(edges, rng.random()), count - 1)
