"""Numbers from answers: accuracy, precision, recall, F1, likelihood, each with a bootstrap interval. Knows no model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from trainer.evidence import Metric

RESAMPLES = 1000
Array = npt.NDArray[np.float64]


def classification(wanted: Sequence[str], found: Sequence[str | None], *, seed: int = 0) -> dict[str, Metric]:
    """Macro averages run over the labels that occur in `wanted`; an answer that is no label (None) is wrong."""
    if not wanted:
        return dict.fromkeys(("accuracy", "precision", "recall", "f1"), Metric(value=None, n=0))
    labels = sorted(set(wanted))
    code = {label: i for i, label in enumerate(labels)}
    confusion = np.zeros((len(labels), len(labels) + 1))  # the last column: answers that are none of the labels
    for label, answer in zip(wanted, found, strict=True):
        confusion[code[label], code.get(answer or "", len(labels))] += 1
    # Drawing rows with replacement is drawing cells of this table.
    draws = _resampled(confusion.ravel(), len(wanted), seed).reshape(-1, *confusion.shape)
    statistics: dict[str, Callable[[Array], Array]] = {
        "accuracy": lambda tables: _hits(tables).sum(-1) / tables.sum((-1, -2)),
        "precision": lambda tables: _macro(_hits(tables), tables.sum(-2)[..., :-1], tables),
        "recall": lambda tables: _macro(_hits(tables), tables.sum(-1), tables),
        "f1": lambda tables: _macro(2 * _hits(tables), tables.sum(-1) + tables.sum(-2)[..., :-1], tables),
    }
    return {name: _metric(f(confusion[None]), f(draws), len(wanted)) for name, f in statistics.items()}


def likelihood(logprobs: Sequence[Sequence[float]], *, seed: int = 0) -> dict[str, Metric]:
    """From the answers' token log-probabilities: NLL per token over all tokens, and its exponential."""
    if not logprobs:
        return dict.fromkeys(("nll", "perplexity"), Metric(value=None, n=0))
    sums = np.array([sum(row) for row in logprobs], dtype=np.float64)
    counts = np.array([len(row) for row in logprobs], dtype=np.float64)
    weights = _resampled(np.ones(len(counts)), len(counts), seed)
    value, draws = (-(rows @ sums) / (rows @ counts) for rows in (np.ones((1, len(counts))), weights))
    return {
        "nll": _metric(value, draws, len(counts)),
        "perplexity": _metric(np.exp(np.minimum(value, 700)), np.exp(np.minimum(draws, 700)), len(counts)),
    }


def _resampled(counts: Array, n: int, seed: int) -> Array:
    """How often each of the counted things is drawn, (RESAMPLES, things)."""
    return np.random.default_rng(seed).multinomial(n, counts / counts.sum(), RESAMPLES).astype(np.float64)


def _metric(value: Array, draws: Array, n: int) -> Metric:
    """The value on all rows and the 95 % percentile interval over resampled rows."""
    if not (np.isfinite(value).all() and np.isfinite(draws).all()):
        return Metric(value=None, n=n)
    low, high = np.quantile(draws, [0.025, 0.975])
    return Metric(value=float(value[0]), low=float(low), high=float(high), n=n)


def _hits(tables: Array) -> Array:
    """(tables, labels): right answers of each label."""
    return np.diagonal(tables, axis1=-2, axis2=-1)


def _macro(parts: Array, wholes: Array, tables: Array) -> Array:
    """Mean ratio over the labels that occur in each table; 0 where a label was never said."""
    occurs = tables.sum(-1) > 0
    ratios = np.divide(parts, wholes, out=np.zeros_like(parts), where=(wholes > 0) & occurs)
    mean: Array = ratios.sum(-1) / np.maximum(occurs.sum(-1), 1)
    return mean
