"""Work between two steps: never during one, never longer than a turn, and never for nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from serving.turns import SHARE, TURN_S, Turns


class Stage:
    """A loop of steps, and a worker that notes in which it did what."""

    def __init__(self) -> None:
        self.busy = True
        self.stepping = False
        self.seen: list[bool] = []
        self.turns = Turns(lambda: self.busy)

    def step(self) -> None:
        self.stepping = True
        time.sleep(0.002)
        self.stepping = False
        self.turns.give(0.002)

    def work(self, pieces: int) -> None:
        for _ in range(pieces):
            self.turns.take()
            self.seen.append(self.stepping and self.busy)
        self.turns.leave()

    @contextmanager
    def worker(self, pieces: int) -> Iterator[threading.Thread]:
        thread = threading.Thread(target=self.work, args=(pieces,))
        thread.start()
        yield thread
        thread.join(10)
        assert not thread.is_alive()
        assert len(self.seen) == pieces


def test_a_worker_works_between_steps_only() -> None:
    stage = Stage()
    with stage.worker(2000) as thread:
        while thread.is_alive():
            stage.step()
    assert not any(stage.seen)


def test_a_worker_need_not_wait_when_no_rows_run() -> None:
    stage = Stage()
    stage.busy = False
    with stage.worker(100):
        pass


def test_a_worker_goes_on_when_the_last_row_ends() -> None:
    stage = Stage()
    with stage.worker(5) as thread:
        thread.join(0.05)
        assert thread.is_alive(), "rows run and no turn was given"
        stage.busy = False


@pytest.mark.parametrize(("step_s", "turn_s"), [(0.002, TURN_S), (0.5, SHARE * 0.5)])
def test_a_step_waits_no_longer_than_a_turn_for_a_worker_that_hangs(step_s: float, turn_s: float) -> None:
    stage, release = Stage(), threading.Event()

    def hang() -> None:
        stage.turns.take()
        release.wait(10)

    thread = threading.Thread(target=hang)
    thread.start()
    while not stage.turns._waiting:
        time.sleep(0.001)
    began = time.monotonic()
    stage.turns.give(step_s)
    assert 0.9 * turn_s < time.monotonic() - began < turn_s + 20 * TURN_S
    began = time.monotonic()
    stage.turns.give(step_s)
    assert time.monotonic() - began < TURN_S / 2, "nobody waits for a turn now"
    release.set()
    thread.join(10)


def test_work_that_begins_long_after_the_last_waits_like_any_other() -> None:
    """A pause between two pieces of work is no wait for a network."""
    stage = Stage()

    def work_twice() -> None:
        for _ in range(2):
            stage.work(1)
            time.sleep(10 * TURN_S)

    thread = threading.Thread(target=work_twice)
    thread.start()
    for given in range(2):
        while not stage.turns._waiting:
            time.sleep(0.001)
        assert len(stage.seen) == given
        stage.turns.give(0.002)
        while len(stage.seen) == given:
            time.sleep(0.001)
    thread.join(10)


@pytest.mark.parametrize("workers", [1, 3])
def test_those_who_leave_give_the_rest_of_their_turn_back(workers: int) -> None:
    stage = Stage()
    threads = [threading.Thread(target=stage.work, args=(1,)) for _ in range(workers)]
    for thread in threads:
        thread.start()
    while stage.turns._waiting < workers:
        time.sleep(0.001)
    stage.turns.give(0.002)
    for thread in threads:
        thread.join(10)
    assert stage.turns._working == 0
    assert stage.turns._waiting == 0


def test_a_worker_that_waits_for_a_network_holds_no_step_up() -> None:
    stage = Stage()

    def fetch() -> None:
        stage.turns.take()
        for _ in range(3):
            time.sleep(10 * TURN_S)
            stage.turns.take()
        stage.seen.append(False)

    thread = threading.Thread(target=fetch)
    thread.start()
    while not stage.turns._waiting:
        time.sleep(0.001)
    stage.turns.give(0.002)
    thread.join(10)
    assert stage.seen, "it was given one turn and went on without another"
    assert stage.turns._working <= 0


def test_a_piece_that_would_outlast_the_turn_waits_for_the_next() -> None:
    """Begun a moment before the end, it would run on into the step, whose threads wait for each other."""
    now = 0.0
    turns = Turns(lambda: True, clock=lambda: now)
    turns._turn, turns._until, turns._working = 1, TURN_S, 1
    turns._own.turn, turns._own.came = 1, (now, time.thread_time())
    for _ in range(2):
        now += 0.3 * TURN_S
        turns.take()
        assert turns._working == 1, "there is time for another"
    now += 0.3 * TURN_S

    def give_once_asked() -> None:
        while not turns._waiting:
            time.sleep(0.001)
        turns.give(0.002)

    giver = threading.Thread(target=give_once_asked)
    giver.start()
    turns.take()
    assert turns._turn == 2, "it waited for another turn"
    giver.join(10)
