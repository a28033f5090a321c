"""Layer A: run lengths of the calibrated charts, on streams they were not calibrated on."""

from __future__ import annotations

import numpy as np
import pytest

from monitoring.basis import Basis
from monitoring.calibration import calibrate, run_length_bound, simulate
from monitoring.chart import RATES, Charts

RNG = np.random.default_rng(2)
BASIS = Basis.fit(RNG.normal(size=(600, 12)))
REFERENCE = BASIS.phi(RNG.normal(size=(600, 12)))
MU = REFERENCE.mean(axis=0)
TARGET = 150.0


@pytest.fixture(scope="module")
def thresholds() -> list[float]:
    calibration = BASIS.phi(RNG.normal(size=(120, 12))) - MU
    return [calibrate([calibration], rate, TARGET, np.random.default_rng(0)) for rate in RATES]


def test_each_chart_reaches_its_run_length_on_fresh_streams(thresholds: list[float]) -> None:
    fresh = BASIS.phi(RNG.normal(size=(500, 12))) - MU
    for rate, threshold in zip(RATES, thresholds, strict=True):
        paths = simulate([fresh], rate, 300, np.random.default_rng(1))
        crossed = paths > threshold
        times = np.where(crossed.any(axis=1), crossed.argmax(axis=1) + 1, 300)
        assert times.sum() / max(1, int(crossed.any(axis=1).sum())) >= TARGET


def test_the_charts_see_a_change_quickly_and_let_go_of_it(thresholds: list[float]) -> None:
    charts = Charts.start(MU, thresholds)
    normal, changed = RNG.normal(size=(60, 12)), RNG.normal(size=(40, 12)) + 1.5
    assert not any(charts.update(phi) for phi in BASIS.phi(normal))
    flags = [charts.update(phi) for phi in BASIS.phi(changed)]
    assert flags.index(True) < 12
    assert charts.mmd() > 0.2
    assert not all(charts.update(phi) for phi in BASIS.phi(RNG.normal(size=(3000, 12))))


def test_the_bound_counts_censored_streams() -> None:
    paths = np.array([[0.0, 1.0, 3.0], [0.0, 1.0, 1.0]])
    assert run_length_bound(paths, 5.0) == pytest.approx(2 * 6 / 5.991, rel=1e-3)
    assert run_length_bound(paths, 2.0) == pytest.approx(2 * 6 / 9.488, rel=1e-3)


def test_a_higher_target_means_a_higher_threshold() -> None:
    residuals = REFERENCE[:100] - MU
    low, high = (calibrate([residuals], 1 / 16, target, np.random.default_rng(0)) for target in (50.0, 500.0))
    assert low < high


def test_saving_and_restoring_changes_nothing(thresholds: list[float]) -> None:
    whole, first, second = (Charts.start(MU, thresholds) for _ in range(3))
    for i, phi in enumerate(REFERENCE[:50]):
        whole.update(phi)
        (first if i < 20 else second).update(phi)
        if i == 19:
            second.restore(first.state())
    assert second.values() == whole.values()
