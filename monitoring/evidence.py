"""Layer B: sequential evidence against "no shift larger than delta", with a guarantee on false alarms.

A channel bets on each session before seeing it; E_t is what one unit becomes, and under the null its mean given the
past is at most one. M_t = E_t (M_{t-1} + 1) (an e-detector of the Shiryaev-Roberts kind: Shin, Ramdas and Rinaldo 2022)
makes M_t - t a supermartingale, so the expected time until M_t >= A is at least A, whatever the data. Channels add with
weights that sum to one, which keeps the property. The guarantee is given the reference's own confidence statements
(eps_n and the margins of the scalars). Knows nothing of adapters, thresholds or what follows an alarm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from monitoring.quantiles import Quantiles

Array = npt.NDArray[np.float64]

RATE = 1 / 16
"""Forgetting of the direction and of the bet's moments: a change is learned within a dozen sessions."""
MAX_STAKE = 0.9
"""Largest share of the worst loss that may be staked; below 1, so E_t stays positive. The growth rate of the evidence
against a clear shift is bounded by this, not by the shift."""
MIN_STAKE = 0.2
"""Always staked. Without it M_t = M_{t-1} + 1 on normal input, and every A-th session would alarm for certain. With it,
losing bets hold M_t near a small value, for the price of one session's delay."""
PHI_WEIGHT = 0.8


@dataclass
class MeanChannel:
    """Bets that the mean feature vector has left the ball of radius delta + eps_n around the reference mean."""

    mu: Array
    slack: float
    direction: npt.NDArray[np.float32] = field(init=False)
    step: int = 0
    mean: float = 0.0
    variance: float = 0.0
    surprise: float = 0.0
    """y_t of the latest session: how far it lies along the direction of drift, beyond what is tolerated."""

    def __post_init__(self) -> None:
        self.direction = np.zeros(self.mu.size, dtype=np.float32)

    def update(self, phi: Array) -> float:
        """log E_t of one session, bet with what was known before it."""
        center, stake = self._terms()
        norm = float(np.linalg.norm(self.direction))
        along = float(phi @ self.direction) / norm if norm > 0.0 else 0.0
        self.surprise = along - center - self.slack
        log_e = math.log1p(stake * self.surprise)
        self._learn(phi, informed=norm > 0.0)
        return log_e

    def _terms(self) -> tuple[float, float]:
        """(<mu, w>, g): the reference along the direction, and the stake, which can never lose everything."""
        norm = float(np.linalg.norm(self.direction))
        center = float(self.mu @ self.direction) / norm if norm > 0.0 else 0.0
        moment = self.variance + self.mean**2
        wish = self.mean / moment if moment > 0.0 else 0.0
        most = MAX_STAKE / (1.0 + center + self.slack)
        return center, min(max(wish, MIN_STAKE), most) if norm > 0.0 else 0.0

    def _learn(self, phi: Array, *, informed: bool) -> None:
        self.direction += np.float32(RATE) * ((phi - self.mu).astype(np.float32) - self.direction)
        if informed:
            self.step += 1
            rate = max(RATE, 1.0 / (self.step + 1))
            error = self.surprise - self.mean
            self.mean += rate * error
            self.variance = (1.0 - rate) * (self.variance + rate * error**2)


class Evidence:
    """M_t in logs over the channels `phi` and, per scalar, `<name>+` and `<name>-` (too large, too small)."""

    def __init__(self, mu: Array, slack: float, scalars: Mapping[str, Quantiles]) -> None:
        self.phi = MeanChannel(mu, slack)
        self._scalars = dict(sorted(scalars.items()))
        tails = [f"{name}{tail}" for name in self._scalars for tail in "+-"]
        rest = 1.0 - PHI_WEIGHT if tails else 0.0
        self._log_weights = {"phi": math.log(1.0 - rest)} | {tail: math.log(rest / len(tails)) for tail in tails}
        self._logs = dict.fromkeys(self._log_weights, -math.inf)
        self.pull = 0.0
        """How strongly the latest session speaks for drift: negative on average without it. Dates the onset."""

    def update(self, phi: Array, scalars: Mapping[str, float]) -> float:
        """Take one session, `phi` (D,) of norm at most one; log M_t after it. A missing scalar makes no bet."""
        gains = dict.fromkeys(self._logs, 0.0) | {"phi": self.phi.update(phi)}
        for name, quantiles in self._scalars.items():
            if math.isfinite(value := scalars.get(name, math.nan)):
                gains[f"{name}+"] = _log_e_value(quantiles.p_at_least(value))
                gains[f"{name}-"] = _log_e_value(quantiles.p_at_most(value))
        self.pull = max(self.phi.surprise, _log_mean([gains[name] for name in gains if name != "phi"]))
        self._logs = {name: gains[name] + float(np.logaddexp(log, 0.0)) for name, log in self._logs.items()}
        return self.log_evidence

    @property
    def log_evidence(self) -> float:
        """log of the weighted sum; -inf before the first session."""
        return float(np.logaddexp.reduce([self._log_weights[name] + log for name, log in self._logs.items()]))

    def reset(self) -> None:
        """Start again after an alarm, keeping what was learned about the direction."""
        self._logs = dict.fromkeys(self._logs, -math.inf)

    def shares(self) -> dict[str, float]:
        """Each channel's share of the evidence; sums to one once there is any."""
        total = self.log_evidence
        if total == -math.inf:
            return dict.fromkeys(self._logs, 0.0)
        return {name: math.exp(self._log_weights[name] + log - total) for name, log in self._logs.items()}

    def state(self) -> dict[str, npt.NDArray[np.generic]]:
        moments = [self.phi.step, self.phi.mean, self.phi.variance, self.phi.surprise]
        return {
            "direction": self.phi.direction,
            "moments": np.array(moments, dtype=np.float64),
            "logs": np.array(list(self._logs.values()), dtype=np.float64),
        }

    def restore(self, state: Mapping[str, npt.NDArray[np.generic]]) -> None:
        self.phi.direction = state["direction"].astype(np.float32)
        step, self.phi.mean, self.phi.variance, self.phi.surprise = (float(x) for x in state["moments"].astype(float))
        self.phi.step = int(step)
        self._logs = dict(zip(self._logs, (float(x) for x in state["logs"].astype(float)), strict=True))


def _log_mean(logs: Sequence[float]) -> float:
    """log of the mean of exp(logs); -inf of nothing."""
    return float(np.logaddexp.reduce(logs)) - math.log(len(logs)) if logs else -math.inf


def _log_e_value(p: float) -> float:
    """0.5 p^(-1/2) integrates to one over a uniform p, so it is an e-value (Vovk and Wang 2021)."""
    return math.log(0.5) - 0.5 * math.log(p)
