"""Requests and tokens a minute, and how many at once: whoever waits as long as told is let in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.gateway.errors import RateLimited, RequestTooLarge
from serving.gateway.limits import REMEMBERED, WINDOW_S, Grant, Quotas, spell_duration
from serving.gateway.principal import Limits, Principal


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def principal(name: str = "a", **limits: int) -> Principal:
    return Principal(f"key:{name}", "default", frozenset({"infer"}), limits=Limits(**limits))


def wait(clock: Clock, quotas: Quotas, who: Principal, tokens: int) -> Grant:
    """Be refused, wait as told, be let in."""
    with pytest.raises(RateLimited) as refused:
        quotas.admit(who, tokens)
    assert refused.value.retry_after_s > 0
    clock.now += refused.value.retry_after_s
    return quotas.admit(who, tokens)


def test_a_minutes_worth_at_once_then_one_after_the_other() -> None:
    clock = Clock()
    quotas, who = Quotas(clock), principal(requests_per_minute=60)
    for _ in range(60):
        quotas.admit(who, 1)
    with pytest.raises(RateLimited, match="60 requests a minute") as refused:
        quotas.admit(who, 1)
    assert refused.value.retry_after_s == pytest.approx(1.0)
    wait(clock, quotas, who, 1)


def test_headers_count_down_and_say_when_all_is_back() -> None:
    clock = Clock()
    quotas, who = Quotas(clock), principal(requests_per_minute=60, tokens_per_minute=150_000)
    quotas.admit(who, 16)
    assert quotas.headers(who) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "150000",
        "x-ratelimit-remaining-tokens": "149984",
        "x-ratelimit-reset-tokens": "7ms",
    }
    clock.now += 1.0
    assert quotas.headers(who)["x-ratelimit-remaining-requests"] == "60"
    assert quotas.headers(principal("b")) == {}


def test_what_was_not_used_comes_back_and_what_was_used_beyond_is_paid_for() -> None:
    clock = Clock()
    quotas, who = Quotas(clock), principal(tokens_per_minute=1000)
    quotas.admit(who, 900).end(100)
    assert quotas.headers(who)["x-ratelimit-remaining-tokens"] == "900"
    quotas.admit(who, 10).end(2000)
    assert quotas.headers(who)["x-ratelimit-remaining-tokens"] == "0"
    with pytest.raises(RateLimited) as refused:
        quotas.admit(who, 1)
    assert refused.value.retry_after_s == pytest.approx(WINDOW_S * 1101 / 1000)


def test_a_request_that_never_fits_is_told_so() -> None:
    with pytest.raises(RequestTooLarge, match="about 1001 tokens"):
        Quotas(Clock()).admit(principal(tokens_per_minute=1000), 1001)


def test_so_many_at_once() -> None:
    clock = Clock()
    quotas, who = Quotas(clock), principal(concurrency=2)
    first, _ = quotas.admit(who, 1), quotas.admit(who, 1)
    with pytest.raises(RateLimited, match="2 requests open"):
        quotas.admit(who, 1)
    quotas.admit(principal("b", concurrency=2), 1)
    clock.now += 3
    first.end(1)
    quotas.admit(who, 1)
    with pytest.raises(RateLimited) as refused:
        quotas.admit(who, 1)
    assert 0.5 < refused.value.retry_after_s < 1.5  # requests take between 1 and 3 seconds, two at a time


def test_changed_limits_hold_at_once() -> None:
    quotas = Quotas(Clock())
    for _ in range(3):
        quotas.admit(principal(requests_per_minute=3), 1)
    with pytest.raises(RateLimited) as raised:
        quotas.admit(principal(requests_per_minute=600), 1)
    with pytest.raises(RateLimited) as lowered:
        quotas.admit(principal(requests_per_minute=1), 1)
    assert raised.value.retry_after_s == pytest.approx(0.1)
    assert lowered.value.retry_after_s == pytest.approx(60)


def test_accounts_that_matter_no_more_are_forgotten() -> None:
    clock = Clock()
    quotas = Quotas(clock)
    busy = principal("busy", requests_per_minute=1)
    quotas.admit(busy, 1).end(1)
    for number in range(REMEMBERED):
        quotas.admit(principal(str(number), requests_per_minute=6000), 1).end(1)
    clock.now += 1
    quotas.admit(principal("one more"), 1)
    assert len(quotas._accounts) == 2
    with pytest.raises(RateLimited):
        quotas.admit(busy, 1)


STEPS = st.lists(st.tuples(st.integers(1, 400), st.integers(0, 900), st.floats(0, 30)), min_size=1, max_size=40)


@given(steps=STEPS, requests=st.integers(1, 50), tokens=st.integers(400, 5000))
def test_whoever_waits_as_told_is_let_in_and_nobody_exceeds_the_rate(
    steps: list[tuple[int, int, float]], requests: int, tokens: int
) -> None:
    clock = Clock()
    quotas, who = Quotas(clock), principal(requests_per_minute=requests, tokens_per_minute=tokens)
    began, used = clock.now, 0
    for admitted, (estimate, real, pause) in enumerate(steps, start=1):
        try:
            grant = quotas.admit(who, estimate)
        except RateLimited as refused:
            clock.now += refused.retry_after_s
            grant = quotas.admit(who, estimate)
        minutes = (clock.now - began) / WINDOW_S
        assert admitted <= requests * (1 + minutes) + 1e-3
        assert used + estimate <= tokens * (1 + minutes) + 1e-3
        grant.end(real)
        used += real
        clock.now += pause


@given(seconds=st.floats(0, 7200))
def test_durations_are_spelled_as_openai_does(seconds: float) -> None:
    spelled = spell_duration(seconds)
    if spelled.endswith("ms"):
        told = int(spelled.removesuffix("ms")) / 1000
    else:
        minutes, _, rest = spelled.removesuffix("s").rpartition("m")
        told = 60 * int(minutes or 0) + int(rest)
    assert seconds <= told <= seconds + 1


def test_some_durations() -> None:
    assert [spell_duration(each) for each in (0, 0.012, 1, 59.5, 360)] == ["0ms", "12ms", "1s", "1m0s", "6m0s"]
