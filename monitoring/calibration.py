"""The threshold of a chart from simulated streams, with a bound on what the simulation cannot know.

Knows how to simulate and to count; the statistic itself is the chart's. Blocks are sessions, so resampling the rows
it is given keeps what one session's requests have in common.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2

from monitoring.chart import statistic

Array = npt.NDArray[np.float64]

CONFIDENCE = 0.95
NUM_STREAMS = 64
MIN_STEPS = 64


def calibrate(residuals: Array, rate: float, target: float, rng: np.random.Generator) -> float:
    """Smallest threshold whose 95 % lower bound on the average run length reaches `target` sessions.

    `residuals` (n, D) are calibration sessions minus the reference mean, disjoint from the sessions behind that mean.
    """
    paths = simulate(residuals, rate, max(MIN_STEPS, int(target) // 2), rng)
    records = np.unique(np.maximum.accumulate(paths, axis=1))
    low, high = 0, len(records) - 1
    while low < high:
        middle = (low + high) // 2
        if run_length_bound(paths, float(records[middle])) >= target:
            high = middle
        else:
            low = middle + 1
    return float(np.nextafter(records[low], np.inf))


def simulate(residuals: Array, rate: float, num_steps: int, rng: np.random.Generator) -> Array:
    """(streams, steps) paths of the chart's statistic over sessions drawn from `residuals` with replacement."""
    _, singular, rotation = np.linalg.svd(residuals, full_matrices=False)
    kept = singular > 1e-9 * max(float(singular[0]), 1e-300)
    rows = residuals @ rotation[kept].T  # same norms, no more columns than rows
    means = np.zeros((NUM_STREAMS, rows.shape[1]))
    paths = np.empty((NUM_STREAMS, num_steps))
    for step in range(num_steps):
        means += rate * (rows[rng.integers(0, len(rows), NUM_STREAMS)] - means)
        paths[:, step] = statistic(np.einsum("ij,ij->i", means, means), rate, step + 1)
    return paths


def run_length_bound(paths: Array, threshold: float) -> float:
    """Lower 95 % bound on the mean time to exceed `threshold`: 2 sum(T) / chi2(.95, 2k + 2) after k alarms."""
    crossed = paths > threshold
    alarmed = crossed.any(axis=1)
    times = np.where(alarmed, crossed.argmax(axis=1) + 1, paths.shape[1])
    return float(2.0 * times.sum() / chi2.ppf(CONFIDENCE, 2 * int(alarmed.sum()) + 2))
