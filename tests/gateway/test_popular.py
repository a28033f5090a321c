"""Which adapters have series of their own: a bounded number, those asked for most of late."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from serving.gateway.metrics import Metrics
from serving.gateway.popular import HALVE_AFTER, MIN_LEAD, OTHER, Popular, Seat


def popular(limit: int) -> tuple[Popular, list[Seat]]:
    left: list[Seat] = []
    return Popular(limit, left.append, always=("base",)), left


def test_the_first_are_named_and_the_rest_share_other() -> None:
    labels, left = popular(2)
    assert [labels.of("t", name).adapter for name in ("a", "b", "c", "a", "base")] == ["a", "b", OTHER, "a", "base"]
    assert left == []


def test_the_same_name_of_two_tenants_is_two_adapters() -> None:
    labels, _ = popular(1)
    assert labels.of("one", "a") == ("one", "a")
    assert labels.of("two", "a") == ("two", OTHER)


def test_who_is_asked_for_more_takes_the_place_of_the_least() -> None:
    labels, left = popular(2)
    for _ in range(20):
        labels.of("t", "busy")
    labels.of("t", "idle")
    seats = [labels.of("t", "rising").adapter for _ in range(2 + MIN_LEAD + 1)]
    assert seats[-1] == "rising"
    assert set(seats[:-1]) == {OTHER}
    assert left == [Seat("t", "idle")]
    assert labels.of("t", "idle").adapter == OTHER


def test_yesterdays_favourites_make_room() -> None:
    labels, left = popular(1)
    for _ in range(10_000):
        labels.of("t", "yesterday")
    for _ in range(20 * HALVE_AFTER):
        labels.of("t", "today")
    assert left == [Seat("t", "yesterday")]


@given(st.lists(st.integers(0, 40), max_size=600), st.integers(1, 5))
def test_never_more_than_the_limit_have_series(asked: list[int], limit: int) -> None:
    named: set[Seat] = set()
    labels = Popular(limit, named.remove, always=())
    for number in asked:
        seat = labels.of("t", f"a{number}")
        if seat.adapter != OTHER:
            named.add(seat)
        assert len(named) <= limit


def test_a_long_tail_does_not_push_out_the_popular() -> None:
    labels, _ = popular(10)
    rng = random.Random(7)
    seats = [
        labels.of("t", f"top{rng.randrange(10)}" if rng.random() < 0.8 else f"tail{rng.randrange(100_000)}").adapter
        for _ in range(20_000)
    ]
    assert sum(seat.startswith("top") for seat in seats[2000:]) > 0.78 * len(seats[2000:])


def test_the_series_of_who_leaves_are_gone() -> None:
    metrics = Metrics(max_adapters=1)
    for name, times in (("old", 1), ("new", 20)):
        for _ in range(times):
            seat = metrics.adapters.of("t", name)
            metrics.requests.labels(*seat, "stop").inc()
            metrics.first_token.labels(*seat).observe(0.1)
    text = metrics.render().decode()
    assert 'adapter="new"' in text
    assert 'adapter="old"' not in text
