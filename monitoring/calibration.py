"""The threshold of a chart from simulated streams, with a bound on what the simulation cannot know.

Knows how to simulate and to count; the statistic itself is the chart's. Blocks are sessions, so resampling the rows
it is given keeps what one session's requests have in common. Each stream draws from one fold: how far a fold's mean
lies from the reference mean is part of what normal input looks like, and must not average out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2

from monitoring.chart import statistic

Array = npt.NDArray[np.float64]

CONFIDENCE = 0.95
NUM_STREAMS = 64
MIN_STEPS = 64


def calibrate(folds: Sequence[Array], rate: float, target: float, rng: np.random.Generator) -> float:
    """Smallest threshold whose 95 % lower bound on the average run length reaches `target` sessions.

    Each of `folds` (n, D) are calibration sessions minus a reference mean made of other sessions.
    """
    paths = simulate(folds, rate, max(MIN_STEPS, int(target) // 2), rng)
    records = np.unique(np.maximum.accumulate(paths, axis=1))
    low, high = 0, len(records) - 1
    while low < high:
        middle = (low + high) // 2
        if run_length_bound(paths, float(records[middle])) >= target:
            high = middle
        else:
            low = middle + 1
    return float(np.nextafter(records[low], np.inf))


def simulate(folds: Sequence[Array], rate: float, num_steps: int, rng: np.random.Generator) -> Array:
    """(streams, steps) paths of the chart's statistic over sessions drawn with replacement from the stream's fold."""
    residuals = np.concatenate(folds)
    _, singular, rotation = np.linalg.svd(residuals, full_matrices=False)
    kept = singular > 1e-9 * max(float(singular[0]), 1e-300)
    rows = residuals @ rotation[kept].T  # same norms, no more columns than rows
    sizes = np.array([len(fold) for fold in folds])
    fold_of = np.arange(NUM_STREAMS) % len(folds)
    starts, lengths = (np.cumsum(sizes) - sizes)[fold_of], sizes[fold_of]
    means = np.zeros((NUM_STREAMS, rows.shape[1]))
    paths = np.empty((NUM_STREAMS, num_steps))
    for step in range(num_steps):
        means += rate * (rows[starts + rng.integers(0, lengths)] - means)
        paths[:, step] = statistic(np.einsum("ij,ij->i", means, means), rate, step + 1)
    return paths


def run_length_bound(paths: Array, threshold: float) -> float:
    """Lower 95 % bound on the mean time to exceed `threshold`: 2 sum(T) / chi2(.95, 2k + 2) after k alarms."""
    crossed = paths > threshold
    alarmed = crossed.any(axis=1)
    times = np.where(alarmed, crossed.argmax(axis=1) + 1, paths.shape[1])
    return float(2.0 * times.sum() / chi2.ppf(CONFIDENCE, 2 * int(alarmed.sum()) + 2))
