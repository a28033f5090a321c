"""The distribution of one scalar in the reference, kept as order statistics, and honest p-values against it.

A p-value counts the reference's sample and adds the Dvoretzky-Kiefer-Wolfowitz margin (Massart's constant), so with
the stated confidence it is not smaller than the true tail probability at any point. A value is first moved towards the
middle by `tolerance`: a difference that small is not drift, however certain it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

MAX_POINTS = 256
MIN_TOLERANCE = 0.2
"""Scalars are logarithms or nats, where this is about a fifth more or less."""
SPREAD_TOLERATED = 0.5


@dataclass(frozen=True, eq=False)
class Quantiles:
    """`points` ascending: point j of G (from 1) is the sample's order statistic of rank ceil(j n / G)."""

    points: Array
    margin: float
    tolerance: float = 0.0

    @classmethod
    def of(cls, values: npt.ArrayLike, error: float) -> Quantiles:
        """From a sample; the chance that one tail's margin fails anywhere is at most `error`."""
        ordered = np.sort(np.asarray(values, dtype=np.float64))
        count = min(len(ordered), MAX_POINTS)
        ranks = -(-np.arange(1, count + 1) * len(ordered) // count)
        margin = math.sqrt(math.log(1.0 / error) / (2.0 * len(ordered)))
        return cls(ordered[ranks - 1], margin, max(MIN_TOLERANCE, SPREAD_TOLERATED * float(ordered.std())))

    def p_at_least(self, value: float) -> float:
        """Upper bound on P(X >= value), tolerance granted."""
        below = int(np.searchsorted(self.points, value - self.tolerance, side="left"))
        return min(1.0, 1.0 - below / len(self.points) + self.margin)

    def p_at_most(self, value: float) -> float:
        """Upper bound on P(X <= value), tolerance granted."""
        reached = int(np.searchsorted(self.points, value + self.tolerance, side="right"))
        return min(1.0, (reached + 1) / len(self.points) + self.margin)
