"""Work beside rows takes a share of the time; alone it is not held up."""

from __future__ import annotations

import pytest

from serving.pace import SHARE, TURN_S, Pace


class Worker:
    """A thread's processor time, and its rests."""

    def __init__(self) -> None:
        self.worked = 0.0
        self.rested = 0.0

    def rest(self, seconds: float) -> None:
        self.rested += seconds

    def work(self, pace: Pace, turns: int, seconds: float) -> None:
        for _ in range(turns):
            self.worked += seconds
            pace(1, 2)


@pytest.mark.parametrize("seconds", [TURN_S / 7, TURN_S, 3.5 * TURN_S])
def test_beside_rows_work_takes_its_share_however_short_its_turns(seconds: float) -> None:
    worker = Worker()
    worker.work(Pace(lambda: True, clock=lambda: worker.worked, sleep=worker.rest), 700, seconds)
    assert SHARE * 0.98 < worker.worked / (worker.worked + worker.rested) < SHARE * 1.05


def test_nobody_waits_for_an_idle_engine() -> None:
    worker = Worker()
    worker.work(Pace(lambda: False, clock=lambda: worker.worked, sleep=worker.rest), 100, TURN_S)
    assert worker.rested == 0


def test_what_was_worked_while_nothing_ran_is_not_paid_for_later() -> None:
    worker, busy = Worker(), False
    pace = Pace(lambda: busy, clock=lambda: worker.worked, sleep=worker.rest)
    worker.work(pace, 1000, TURN_S)
    busy = True
    worker.work(pace, 1, TURN_S)
    assert worker.rested <= 2 * TURN_S / SHARE, "not the thousand turns before"
