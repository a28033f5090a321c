"""This process's resident memory over time, and whether it grows. Reads /proc; knows no engine."""

from __future__ import annotations

import os
import statistics
from dataclasses import dataclass, field
from pathlib import Path

STATM = Path("/proc/self/statm")
WARM_UP = 0.3
"""This share of the samples comes before the measurement: caches and pools fill."""


def resident_bytes() -> int | None:
    """None where the system does not say."""
    if not STATM.exists():
        return None
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@dataclass
class Memory:
    """Samples of (requests ended, bytes)."""

    samples: list[tuple[int, int]] = field(default_factory=list)

    def sample(self, requests: int) -> None:
        now = resident_bytes()
        if now is not None:
            self.samples.append((requests, now))

    @property
    def warm(self) -> list[tuple[int, int]]:
        return self.samples[int(len(self.samples) * WARM_UP) :]

    def slope(self) -> float:
        """Bytes per request after the warm-up, by least squares."""
        if len(self.warm) < 3:
            return 0.0
        requests, sizes = zip(*self.warm, strict=True)
        return statistics.linear_regression(requests, sizes).slope

    def growth(self) -> float:
        """What the slope adds up to over the measured part, as a share of the memory in use."""
        if len(self.warm) < 3:
            return 0.0
        span = self.warm[-1][0] - self.warm[0][0]
        return self.slope() * span / statistics.median(size for _, size in self.warm)

    def drawn(self, count: int = 50) -> list[float]:
        """Megabytes, at evenly spread moments."""
        return [round(size / 1e6, 1) for _, size in self.samples][:: max(len(self.samples) // count, 1)]
