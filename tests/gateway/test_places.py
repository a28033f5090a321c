"""The queue is bounded, shared among tenants, and whoever is turned away hears when to come back."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import Busy, Invalid
from serving.gateway.places import GREED, Places


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def fill(places: Places, tenant: str) -> int:
    """As many rows as the tenant gets in; how many it holds then."""
    while True:
        try:
            places.take(tenant, 1)
        except Busy:
            return places.held[tenant]


def serve(places: Places, clock: Clock, tenant: str, rows: int, seconds_each: float) -> None:
    for _ in range(rows):
        clock.now += seconds_each
        places.give_back(tenant, 1, ran=True)


def test_one_tenant_leaves_room_for_another() -> None:
    places = Places(total=288, seats=32)
    assert fill(places, "a") == 256
    places.take("b", 1)
    assert fill(places, "b") < 32
    assert places.open <= 288


def test_tenants_that_flood_get_equal_shares() -> None:
    places = Places(total=288, seats=32)
    for _ in range(400):
        for tenant in ("a", "b"):
            with suppress(Busy):
                places.take(tenant, 1)
    assert abs(places.held["a"] - places.held["b"]) <= 1
    assert places.held["a"] == pytest.approx(288 * GREED / (2 * GREED + 1), abs=1)


def test_few_places_are_all_used() -> None:
    places = Places(total=2, seats=1)
    assert fill(places, "a") == 2


def test_more_answers_than_places_can_never_be_given() -> None:
    with pytest.raises(Invalid, match="at most 4"):
        Places(total=4, seats=2).take("a", 5)


def test_the_wait_told_follows_from_how_fast_rows_end() -> None:
    clock = Clock()
    places = Places(total=20, seats=10, clock=clock)
    fill(places, "a")
    serve(places, clock, "a", 10, 0.5)
    fill(places, "a")
    waits = []
    for _ in range(3):
        with pytest.raises(Busy) as refused:
            places.take("a", 1)
        waits.append(refused.value.retry_after_s)
    assert waits == pytest.approx([1.0, 1.5, 2.0])  # the first place was promised to whom `fill` saw refused


def test_those_who_come_back_when_told_are_let_in() -> None:
    clock = Clock()
    places = Places(total=20, seats=10, clock=clock)
    fill(places, "a")
    serve(places, clock, "a", 10, 0.5)
    fill(places, "a")
    due = []
    for _ in range(8):
        with pytest.raises(Busy) as refused:
            places.take("a", 1)
        due.append(clock.now + refused.value.retry_after_s)
    for instant in due:
        while clock.now + 0.5 <= instant:
            serve(places, clock, "a", 1, 0.5)
        clock.now = instant
        places.take("a", 1)


def test_nobody_is_sent_away_for_longer_than_the_queue_is() -> None:
    clock = Clock()
    places = Places(total=20, seats=10, clock=clock)
    fill(places, "a")
    serve(places, clock, "a", 10, 0.5)
    fill(places, "a")
    for _ in range(100):
        with pytest.raises(Busy) as refused:
            places.take("a", 1)
    assert refused.value.retry_after_s <= places.open * 0.6


def test_who_could_not_be_seated_in_time_is_told_at_once() -> None:
    clock = Clock()
    places = Places(total=100, seats=10, clock=clock)
    for _ in range(30):
        places.take("a", 1)
    places.take("a", 1, left_s=0.1)  # nothing is known yet of how long it takes
    serve(places, clock, "a", 10, 0.5)
    with pytest.raises(Busy, match=r"within 1\.0 s") as refused:
        places.take("a", 1, left_s=1.0)
    assert 1 < refused.value.retry_after_s < 10
    places.take("a", 1, left_s=30.0)
    places.take("b", 1, left_s=1.0)  # its turn comes before most of a's


def test_the_rate_of_a_gateway_that_was_not_full_tells_nothing() -> None:
    clock = Clock()
    places = Places(total=20, seats=10, clock=clock)
    for _ in range(50):
        places.take("a", 1)
        serve(places, clock, "a", 1, 100.0)
    assert places.rate() is None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 6), st.booleans()), max_size=200))
def test_never_more_than_there_are(steps: list[tuple[str, int, bool]]) -> None:
    places, held = Places(total=30, seats=4), []
    for tenant, rows, leaves in steps:
        if leaves and held:
            places.give_back(*held.pop(0), ran=True)
        try:
            places.take(tenant, rows)
            held.append((tenant, rows))
        except Busy:
            assert places.open > 0
        assert places.open == sum(rows for _, rows in held) <= 30
        if places.open == 0:
            assert not places.held
    for each in held:
        places.give_back(*each, ran=False)
    assert places.open == 0
