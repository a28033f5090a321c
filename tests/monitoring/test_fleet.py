from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.fleet import DAY_S, MIN_RUN_LENGTH, count_decayed, run_length


@given(st.lists(st.floats(0.0, 1e7), min_size=1, max_size=50), st.floats(0.001, 100.0))
def test_the_fleet_keeps_its_promise(rates: list[float], budget: float) -> None:
    expected = sum(rate / run_length(rate, len(rates), budget) for rate in rates)
    assert expected <= budget * (1 + 1e-9)


def test_a_quiet_adapter_still_has_a_floor() -> None:
    assert run_length(1.0, 1, 10.0) == MIN_RUN_LENGTH


def test_the_rate_settles_at_sessions_per_day() -> None:
    count = 0.0
    for _ in range(30 * 100):
        count = count_decayed(count, DAY_S / 100)
    assert count == pytest.approx(100, rel=0.01)
