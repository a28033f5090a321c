"""Layer A: exponentially weighted charts of the mean feature vector, calibrated by simulation, for people watching.

S_t = |m_t|^2 / (1 - (1 - l)^(2t)) with m_t = (1 - l) m_{t-1} + l (phi_t - mu), one chart per rate l: a large l sees
an abrupt change within a few sessions, a small one a slow one at all. Knows nothing of alarms that page anyone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Number = TypeVar("Number", float, Array)

RATES = (1 / 16, 1 / 64, 1 / 256)
RELEASE = 0.8
"""A watch ends when every chart is below this share of its threshold: no flapping at the line."""


def statistic(squared_norm: Number, rate: float, step: int) -> Number:
    """S_t from |m_t|^2: the norm, freed from the smaller variance that an average has at its start."""
    return squared_norm / (1.0 - (1.0 - rate) ** (2 * step))


@dataclass
class Charts:
    """The charts of one detector; `update` mutates."""

    mu: Array
    thresholds: Sequence[float]
    means: npt.NDArray[np.float32]
    step: int = 0
    watching: bool = False

    @classmethod
    def start(cls, mu: Array, thresholds: Sequence[float]) -> Charts:
        return cls(mu, tuple(thresholds), np.zeros((len(RATES), mu.size), dtype=np.float32))

    def update(self, phi: Array) -> bool:
        """Take one session's features; whether somebody should be watching."""
        rates = np.asarray(RATES, dtype=np.float32)[:, None]
        self.means += rates * ((phi - self.mu).astype(np.float32) - self.means)
        self.step += 1
        ratios = [value / threshold for value, threshold in zip(self.values(), self.thresholds, strict=True)]
        self.watching = max(ratios) > (RELEASE if self.watching else 1.0)
        return self.watching

    def values(self) -> list[float]:
        """S_t of every chart."""
        if not self.step:
            return [0.0] * len(RATES)
        norms = np.einsum("ij,ij->i", self.means, self.means, dtype=np.float64)
        return [statistic(float(norm), rate, self.step) for norm, rate in zip(norms, RATES, strict=True)]

    def mmd(self) -> float:
        """Distance of the fastest chart's mean from the reference mean."""
        return float(np.linalg.norm(self.means[0]))

    def state(self) -> dict[str, npt.NDArray[np.generic]]:
        return {"means": self.means, "counts": np.array([self.step, self.watching], dtype=np.int64)}

    def restore(self, state: Mapping[str, npt.NDArray[np.generic]]) -> None:
        self.means = state["means"].astype(np.float32)
        self.step, self.watching = int(state["counts"][0]), bool(state["counts"][1])
