"""Layer B: the guarantee on streams where it is hardest to keep, and exact detection on seeded ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.basis import Basis
from monitoring.evidence import Evidence
from monitoring.quantiles import Quantiles
from monitoring.reference import Reference, Sample, build_reference

HIDDEN = 16
RNG = np.random.default_rng(8)
BASIS = Basis.fit(RNG.normal(size=(500, HIDDEN)))
UNIFORM = Quantiles(np.linspace(0.001, 1.0, 1000), margin=1e-4)


@pytest.fixture(scope="module")
def reference() -> Reference:
    rows = RNG.normal(size=(260, HIDDEN))
    samples = [Sample(embedding=row.astype(np.float32)) for row in rows]
    return build_reference(BASIS, samples[:200], samples[200:], target_run_length=50)


def first_alarm(evidence: Evidence, stream: np.ndarray, run_length: float) -> int | None:
    for i, row in enumerate(BASIS.phi(stream)):
        if evidence.update(row, {}) >= math.log(run_length):
            return i
    return None


def test_the_exact_session_of_the_alarm(reference: Reference) -> None:
    """Pinned: a change of this number is a change of what every operator will see."""
    rng = np.random.default_rng(3)
    stream = rng.normal(size=(300, HIDDEN))
    stream[150:] += 1.5
    assert first_alarm(Evidence(reference.mu, reference.slack, {}), stream, 1e4) == 150 + 20


def test_stronger_contamination_is_seen_sooner(reference: Reference) -> None:
    rng = np.random.default_rng(4)
    delays = []
    for share in (1.0, 0.7, 0.5):
        stream = rng.normal(size=(1000, HIDDEN))
        stream[100:] += 2.0 * (rng.uniform(size=(900, 1)) < share)
        alarm = first_alarm(Evidence(reference.mu, reference.slack, {}), stream, 1e4)
        assert alarm is not None
        delays.append(alarm - 100)
    assert delays == sorted(delays)
    assert delays[0] < 40


def run_lengths(make: object, run_length: float, streams: int, steps: int, seed: int) -> np.ndarray:
    """Times of the first alarm, censored at `steps`."""
    times = []
    for stream in range(streams):
        rng = np.random.default_rng([seed, stream])
        evidence, phis, scalars = make(rng, steps)  # type: ignore[operator]
        times.append(steps)
        for i in range(steps):
            if evidence.update(phis[i], {"x": scalars[i]} if scalars is not None else {}) >= math.log(run_length):
                times[-1] = i + 1
                break
    return np.array(times)


@pytest.mark.parametrize("case", ["at the edge", "scalars", "both"])
def test_the_mean_time_to_a_false_alarm_is_at_least_promised(case: str) -> None:
    """On the boundary of the null, where it is tight: P(T <= t) <= t / A at every t, and the restricted mean follows.

    "At the edge" the features are two points whose mean lies exactly `slack` from the reference mean, so the bets are
    fair and not merely unfavourable. With A = 60 and 1000 streams a broken rule (a stake that may look at its own
    session, a missing margin) alarms many times too often.
    """
    promised, steps = 60.0, 120
    slack, size = 0.2, 8
    mu = np.zeros(size)

    def make(rng: np.random.Generator, steps: int) -> object:
        signs = np.where(rng.uniform(size=steps) < 0.5 + slack / 2, 1.0, -1.0)
        phis = np.zeros((steps, size))
        phis[:, 0] = signs if case != "scalars" else 0.0
        quantiles = {"x": UNIFORM} if case != "at the edge" else {}
        return Evidence(mu, slack, quantiles), phis, rng.uniform(size=steps) if quantiles else None

    times = run_lengths(make, promised, streams=1000, steps=steps, seed=5)
    for t in (6, 15, 30, 60):
        early = (times <= t).mean()
        assert early <= t / promised + 3 * math.sqrt(t / promised / 1000)
    assert times.mean() >= promised


def test_no_alarm_on_fresh_input_like_the_reference(reference: Reference) -> None:
    """Ten thousand sessions with A = 1000 would allow ten; the slack makes it none.

    Regression: where nothing speaks for drift the stake was zero, M_t counted the sessions, and number A alarmed.
    """
    evidence = Evidence(reference.mu, reference.slack, {})
    assert first_alarm(evidence, np.random.default_rng(6).normal(size=(10_000, HIDDEN)), 1e3) is None
    assert evidence.log_evidence < math.log(300)


def test_a_shift_within_the_slack_is_not_drift(reference: Reference) -> None:
    small = np.random.default_rng(7).normal(size=(3000, HIDDEN))
    small[:, 0] += 0.7
    distance = np.linalg.norm(BASIS.phi(small).mean(axis=0) - reference.mu)
    assert 0.5 * reference.slack < distance < reference.slack
    assert first_alarm(Evidence(reference.mu, reference.slack, {}), small, 1e3) is None


def test_a_scalar_alone_can_raise_the_alarm(reference: Reference) -> None:
    quantiles = {"length": Quantiles.of(np.random.default_rng(2).normal(5.0, 0.3, 200), error=0.02)}
    evidence = Evidence(reference.mu, reference.slack, quantiles)
    rng = np.random.default_rng(9)
    logs = [evidence.update(BASIS.phi(rng.normal(size=(1, HIDDEN)))[0], {"length": 7.0}) for _ in range(60)]
    assert max(logs) > math.log(1e4)
    shares = evidence.shares()
    assert max(shares, key=lambda name: shares[name]) == "length+"
    assert sum(shares.values()) == pytest.approx(1.0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.0, 1.0), st.integers(1, 60))
def test_evidence_is_finite_whatever_comes(seed: int, slack: float, steps: int) -> None:
    """No sequence of vectors of norm one can break the bet: the stake never loses everything."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(3, 8))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    evidence = Evidence(directions[0] * rng.uniform(), slack, {"x": UNIFORM})
    for _ in range(steps):
        vector = directions[rng.integers(3)] * rng.choice([-1.0, 1.0])
        assert math.isfinite(evidence.update(vector, {"x": float(rng.normal())}))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 40))
def test_saving_and_restoring_changes_nothing(seed: int, cut: int) -> None:
    rng = np.random.default_rng(seed)
    phis = BASIS.phi(rng.normal(size=(50, HIDDEN)) + 0.5)
    mu = phis[:10].mean(axis=0)
    whole, first, second = (Evidence(mu, 0.05, {"x": UNIFORM}) for _ in range(3))
    expected = [whole.update(phi, {"x": 0.3}) for phi in phis]
    got = [first.update(phi, {"x": 0.3}) for phi in phis[:cut]]
    second.restore(first.state())
    got += [second.update(phi, {"x": 0.3}) for phi in phis[cut:]]
    assert got == expected


def test_reset_forgets_the_evidence_but_not_the_direction(reference: Reference) -> None:
    stream = np.random.default_rng(3).normal(size=(100, HIDDEN)) + 1.5
    evidence = Evidence(reference.mu, reference.slack, {})
    first = first_alarm(evidence, stream, 1e3)
    evidence.reset()
    assert evidence.log_evidence == -math.inf
    again = first_alarm(evidence, stream, 1e3)
    assert first is not None
    assert again is not None
    assert again < first
