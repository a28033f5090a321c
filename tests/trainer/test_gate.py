import math

import pytest

from trainer.evidence import Measurements, Metric
from trainer.gate import judge
from trainer.spec import Gate


def metrics(**values: float | None) -> dict[str, Metric]:
    return {name.replace("__", "/"): Metric(value=value, n=100) for name, value in values.items()}


MEASURED = Measurements(
    candidate=metrics(test__accuracy=0.9, test__nll=1.5, forget__a=0.5, forget__b=0.4),
    base=metrics(test__accuracy=0.5, test__nll=2.0, forget__a=0.5, forget__b=0.45),
    parent=metrics(test__accuracy=0.92, test__nll=1.5, forget__a=0.5, forget__b=0.4),
)


@pytest.mark.parametrize(
    ("pattern", "gate", "passes"),
    [
        ("test/accuracy", Gate(min=0.9), True),
        ("test/accuracy", Gate(min=0.91), False),
        ("test/nll", Gate(max=1.5), True),
        ("test/nll", Gate(max=1.4), False),
        ("test/accuracy", Gate(vs="parent"), False),
        ("test/accuracy", Gate(vs="parent", max_drop=0.02), True),
        ("test/accuracy", Gate(vs="base", min_gain=0.4), True),
        ("test/accuracy", Gate(vs="base", min_gain=0.41), False),
        ("test/nll", Gate(vs="base", min_gain=0.5), True),
        ("test/nll", Gate(vs="parent", min_gain=1e-6), False),
        ("test/nll", Gate(vs="parent"), True),
        ("forget/*", Gate(max_drop=0.05), True),
        ("forget/*", Gate(max_drop=0.04), False),
        ("absent/*", Gate(min=0.0), False),
        ("test/accuracy", Gate(min=0.5, max=0.8), False),
    ],
)
def test_conditions(pattern: str, gate: Gate, passes: bool) -> None:
    verdict = judge(MEASURED, {pattern: gate})
    assert verdict.passed is passes
    assert bool(verdict.failures) is not passes


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_what_is_not_a_number_fails_every_gate(value: float | None) -> None:
    measured = Measurements(candidate=metrics(test__accuracy=value), base=metrics(test__accuracy=0.1))
    for gate in (Gate(min=0.0), Gate(max=1.0), Gate(vs="base"), Gate(vs="parent")):
        verdict = judge(measured, {"test/accuracy": gate})
        assert verdict.failures == ("FAIL test/accuracy: not a finite number",)


def test_a_rival_without_a_number_fails_and_an_absent_one_does_not() -> None:
    measured = Measurements(candidate=metrics(test__f1=0.9), base=metrics(test__f1=math.nan))
    assert not judge(measured, {"test/f1": Gate(vs="base")}).passed
    assert judge(measured, {"test/f1": Gate(vs="parent")}).passed


def test_every_gate_must_hold_and_each_gives_a_reason() -> None:
    verdict = judge(MEASURED, {"test/accuracy": Gate(min=0.5, max=0.95), "forget/*": Gate(min=0.45)})
    assert not verdict.passed
    assert len(verdict.reasons) == 4
    assert len(verdict.failures) == 1
