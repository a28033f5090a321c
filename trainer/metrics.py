"""Numbers from answers: accuracy, precision, recall, F1, likelihood, each with a bootstrap interval. Knows no model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from trainer.evidence import Metric

RESAMPLES = 500
Numbers = npt.NDArray[np.float64]
Statistic = Callable[[npt.NDArray[np.intp]], float]
"""A number computed from the chosen rows."""


def classification(wanted: Sequence[str], found: Sequence[str | None], *, seed: int = 0) -> dict[str, Metric]:
    """Macro averages run over the labels that occur in `wanted`; an answer that is no label (None) is wrong."""
    labels = sorted(set(wanted))
    code = {label: i for i, label in enumerate(labels)}
    truth = np.array([code[label] for label in wanted], dtype=np.intp)
    said = np.array([code.get(label or "", -1) for label in found], dtype=np.intp)

    def macro(pick: int) -> Statistic:
        return lambda rows: float(
            np.mean([_scores(truth[rows], said[rows], i)[pick] for i in set(truth[rows].tolist())])
        )

    statistics: dict[str, Statistic] = {
        "accuracy": lambda rows: float(np.mean(truth[rows] == said[rows])),
        "precision": macro(0),
        "recall": macro(1),
        "f1": macro(2),
    }
    return {name: bootstrap(statistic, len(truth), seed) for name, statistic in statistics.items()}


def likelihood(logprobs: Sequence[Sequence[float]], *, seed: int = 0) -> dict[str, Metric]:
    """From the answers' token log-probabilities: NLL per token over all tokens, and its exponential."""
    sums: Numbers = np.array([sum(row) for row in logprobs], dtype=np.float64)
    counts: Numbers = np.array([len(row) for row in logprobs], dtype=np.float64)

    def nll(rows: npt.NDArray[np.intp]) -> float:
        return float(-sums[rows].sum() / counts[rows].sum())

    return {
        "nll": bootstrap(nll, len(sums), seed),
        "perplexity": bootstrap(lambda rows: math.exp(min(nll(rows), 700.0)), len(sums), seed),
    }


def bootstrap(statistic: Statistic, n: int, seed: int) -> Metric:
    """The value on all rows and the 95 % percentile interval over resampled rows."""
    if n == 0:
        return Metric(value=None, n=0)
    rng = np.random.default_rng(seed)
    value = statistic(np.arange(n))
    draws = [statistic(rng.integers(0, n, n)) for _ in range(RESAMPLES)]
    low, high = np.quantile(draws, [0.025, 0.975])
    finite = all(math.isfinite(number) for number in (value, low, high))
    return Metric(value=value, low=float(low), high=float(high), n=n) if finite else Metric(value=None, n=n)


def _scores(truth: npt.NDArray[np.intp], said: npt.NDArray[np.intp], label: int) -> tuple[float, float, float]:
    """Precision, recall and F1 of one label; 0 where nothing was said or found."""
    hits = float(np.sum((truth == label) & (said == label)))
    precision = hits / max(1.0, float(np.sum(said == label)))
    recall = hits / max(1.0, float(np.sum(truth == label)))
    return precision, recall, 2 * precision * recall / (precision + recall) if hits else 0.0
