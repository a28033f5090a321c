"""The false-alarm budget: F false alarms a day over the whole fleet, shared out as one threshold per adapter."""

from __future__ import annotations

import math

DAY_S = 86_400.0
MIN_RUN_LENGTH = 1_000.0
"""Sessions to a false alarm that even an adapter with hardly any traffic is promised."""


def run_length(sessions_per_day: float, num_adapters: int, false_alarms_per_day: float) -> float:
    """A_a = r_a K / F sessions: K adapters, r_a sessions a day each, A_a between false alarms: F a day."""
    return max(MIN_RUN_LENGTH, sessions_per_day * num_adapters / false_alarms_per_day)


def count_decayed(count: float, elapsed_s: float) -> float:
    """Sessions of about the last day, one more having just arrived: an exponential average."""
    return count * math.exp(-max(elapsed_s, 0.0) / DAY_S) + 1.0
