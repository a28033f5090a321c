"""The decision on evidence: a pure function of the measurements and the gates. Knows no torch, no store, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from math import isfinite

import msgspec

from trainer.evidence import Measurements
from trainer.spec import Gate

LOWER_IS_BETTER = ("loss", "nll", "perplexity", "ece", "flip_rate")


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """`reasons` has one line per condition looked at; failed ones begin with FAIL."""

    passed: bool
    reasons: tuple[str, ...]

    @property
    def failures(self) -> tuple[str, ...]:
        return tuple(reason for reason in self.reasons if reason.startswith("FAIL"))


def judge(measured: Measurements, gates: Mapping[str, Gate]) -> Verdict:
    """Every gate must hold; a gate that no metric matches fails, and so does a value that is not a number."""
    reasons: list[str] = []
    for pattern, gate in gates.items():
        names = sorted(name for name in measured.candidate if fnmatchcase(name, pattern))
        if not names:
            reasons.append(f"FAIL {pattern}: no such metric was measured")
        for name in names:
            reasons += _conditions(name, gate, measured)
    return Verdict(passed=not any(reason.startswith("FAIL") for reason in reasons), reasons=tuple(reasons))


def _conditions(name: str, gate: Gate, measured: Measurements) -> list[str]:
    value = _number(measured.candidate, name)
    if value is None:
        return [f"FAIL {name}: not a finite number"]
    lines = []
    if gate.min is not None:
        lines.append(_line(value >= gate.min, f"{name} {value:.4g} >= {gate.min:.4g}"))
    if gate.max is not None:
        lines.append(_line(value <= gate.max, f"{name} {value:.4g} <= {gate.max:.4g}"))
    if gate.vs is not None or gate.max_drop is not None or gate.min_gain is not None:
        lines.append(_comparison(name, value, gate, measured))
    return lines


def _comparison(name: str, value: float, gate: Gate, measured: Measurements) -> str:
    """Gain over the other model, positive when better, whichever way the metric runs."""
    other = gate.vs or "base"
    rival = measured.parent if other == "parent" else measured.base
    if rival is None:
        return _line(True, f"{name}: there is no {other} to compare with")
    against = _number(rival, name)
    if against is None:
        return _line(False, f"{name}: {other} has no finite value to compare with")
    lower = name.rsplit("/", 1)[-1].endswith(LOWER_IS_BETTER)
    gain = against - value if lower else value - against
    needed = gate.min_gain if gate.min_gain is not None else 0.0 - (gate.max_drop or 0.0)
    kept = gain >= needed or abs(gain - needed) < 1e-9
    return _line(kept, f"{name} {value:.4g} vs {other} {against:.4g}: gain {gain:+.4g} >= {needed:+.4g}")


def _number(metrics: Mapping[str, object], name: str) -> float | None:
    value = getattr(metrics.get(name), "value", None)
    return float(value) if isinstance(value, (int, float)) and isfinite(value) else None


def _line(holds: bool, text: str) -> str:
    return f"{'ok' if holds else 'FAIL'} {text}"
