from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from monitoring.basis import Basis
from monitoring.quantiles import Quantiles
from monitoring.reference import Reference, Sample
from monitoring.reference import build_reference as build
from registry.errors import Corrupt, Invalid

RNG = np.random.default_rng(1)
ROWS = RNG.normal(size=(320, 32)).astype(np.float32)
BASIS = Basis.fit(RNG.normal(size=(400, 32)))
build_reference = partial(build, target_run_length=60)


def samples(rows: np.ndarray, sessions: int | None = None) -> list[Sample]:
    return [
        Sample(embedding=row, scalars={"log_length": float(row[0])}, session=f"s{i % sessions}" if sessions else "")
        for i, row in enumerate(rows)
    ]


def test_it_holds_the_mean_its_error_and_its_unevenness() -> None:
    reference = build_reference(BASIS, samples(ROWS[:240]), samples(ROWS[240:]))
    phi = BASIS.phi(ROWS[:240])
    np.testing.assert_allclose(reference.mu, phi.mean(axis=0))
    spread = np.sqrt((1 - reference.mu @ reference.mu) / 240)  # root mean square error of the mean
    assert spread < reference.eps < 1.5 * spread
    assert 2 * spread < reference.delta < 3 * spread
    assert np.linalg.norm(BASIS.phi(RNG.normal(size=(4000, 32))).mean(axis=0) - reference.mu) < reference.eps


def test_bytes_are_small_whole_and_reproducible() -> None:
    reference = build_reference(BASIS, samples(ROWS), seed=3)
    data = reference.to_bytes()
    assert data == build_reference(BASIS, samples(ROWS), seed=3).to_bytes()
    assert len(data) < 95_000
    again = Reference.from_bytes(data)
    np.testing.assert_array_equal(again.mu, reference.mu)
    assert again.to_bytes() == data
    assert (again.eps, again.delta, again.thresholds) == (reference.eps, reference.delta, reference.thresholds)
    assert again.num_sessions == 320
    for size in range(0, len(data), 97):
        with pytest.raises(Corrupt):
            Reference.from_bytes(data[:size])


def test_the_unit_is_the_session() -> None:
    reference = build_reference(BASIS, samples(ROWS, sessions=80), samples(ROWS[:40]))
    assert reference.num_sessions == 80
    by_row = build_reference(BASIS, samples(ROWS), samples(ROWS[:40]))
    np.testing.assert_allclose(reference.mu, by_row.mu)


def test_too_little_is_refused_and_broken_rows_drop_out() -> None:
    with pytest.raises(Invalid, match="32 sessions"):
        build_reference(BASIS, samples(ROWS[:30]))
    broken = ROWS[:100].copy()
    broken[7] = np.inf
    assert build_reference(BASIS, samples(broken), samples(ROWS[200:])).num_sessions == 99


def test_p_values_are_honest() -> None:
    """With the margin, no p-value is below the true tail probability: here for 200 references at every point."""
    too_small = 0
    points = np.linspace(0.001, 0.999, 101)
    for seed in range(200):
        quantiles = Quantiles.of(np.random.default_rng(seed).uniform(size=150), error=0.05)
        exact = Quantiles(quantiles.points, quantiles.margin)
        upper = np.array([exact.p_at_least(x) for x in points])
        lower = np.array([exact.p_at_most(x) for x in points])
        too_small += bool((upper < 1 - points).any()) + bool((lower < points).any())
    assert too_small <= 0.05 * 400
    assert Quantiles.of([1.0, 2.0], 0.05).p_at_least(1e9) <= 1.0


def test_order_statistics_are_conservative_when_thinned() -> None:
    values = np.arange(1000.0)
    thinned, whole = Quantiles.of(values, 0.5), Quantiles(values, Quantiles.of(values, 0.5).margin)
    thinned = Quantiles(thinned.points, thinned.margin)
    assert len(thinned.points) == 256
    for x in np.linspace(-5, 1005, 333):
        assert thinned.p_at_least(x) >= whole.p_at_least(x)
        assert thinned.p_at_most(x) >= whole.p_at_most(x) - 1e-3
