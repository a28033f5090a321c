"""What an alias comes to mean is loaded before anybody asks, for models that were asked for here, or are pinned."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from registry.errors import Invalid
from serving.gateway.follower import AWAKE_S, Follower

if TYPE_CHECKING:
    from tests.gateway.conftest import Running


def until(holds: Callable[[], bool], timeout_s: float = 10.0) -> None:
    end = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_an_alias_move_is_loaded_before_the_first_request(fresh: Running) -> None:
    residency = fresh.gateway.residency
    fresh.publish("moved", 1)
    fresh.publish("unasked", 2)
    fresh.chat("moved", max_tokens=1)
    second = fresh.publish("moved", 3, prod=False)
    other = fresh.publish("unasked", 4)
    fresh.registry.alias("moved", "prod", second)
    until(lambda: residency.is_resident(second.digest))
    assert residency.stats().prefetches == 1
    assert not residency.is_resident(other.digest), "nobody asked for it here"
    hits = residency.stats().hits
    assert fresh.chat("moved", max_tokens=1).headers["x-adapter-digest"] == second.digest
    assert residency.stats().hits == hits + 1


def test_a_publish_that_moves_the_alias_is_followed_and_so_is_a_rollback(fresh: Running) -> None:
    residency = fresh.gateway.residency
    first = fresh.publish("kept", 1)
    fresh.chat("kept", max_tokens=1)
    second = fresh.publish("kept", 2)
    until(lambda: residency.is_resident(second.digest))
    fresh.registry.rollback("kept")
    assert fresh.chat("kept", max_tokens=1).headers["x-adapter-digest"] == first.digest


def test_pins_are_loaded_unasked_and_move_with_their_alias(start: Any) -> None:
    running: Running = start(pinned="warm, later@canary")
    residency = running.gateway.residency
    assert "later@canary" in running.log.getvalue()
    first = running.publish("warm", 1)
    until(lambda: residency.is_resident(first.digest))
    later = running.publish("later", 2, prod=False)
    running.registry.alias("later", "canary", later)
    second = running.publish("warm", 3)
    until(lambda: residency.is_resident(second.digest) and residency.is_resident(later.digest))
    until(lambda: residency.stats().pinned == 2)


def test_a_pin_must_be_a_name(start: Any) -> None:
    with pytest.raises(Invalid):
        start(pinned="../etc/passwd")


def test_the_first_poll_after_a_commit_sees_it_with_one_list(fresh: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    residency, store = fresh.gateway.residency, fresh.registry.store
    fresh.gateway.home.follower.close()
    names = [f"many-{number}" for number in range(6)]
    for seed, name in enumerate(names, 1):
        fresh.publish(name, seed)
        fresh.chat(name, max_tokens=1)
    second = fresh.publish(names[0], 11, prod=False)
    follower = Follower(fresh.gateway.home.catalog, residency, [], fresh.gateway.log)
    follower.poll()
    listed: list[str] = []
    list_keys = store.list

    def counted(prefix: str, start_after: str = "") -> Iterator[str]:
        listed.append(prefix)
        return list_keys(prefix, start_after)

    def look() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(store, "list", counted)
            listed.clear()
            follower.poll()
        assert listed == ["t/default/dirty/"], "however many adapters are followed"

    look()
    assert residency.stats().prefetches == 0
    fresh.registry.alias(names[0], "prod", second)
    look()
    assert residency.stats().prefetches == 1, "an alias move"
    third = fresh.publish(names[1], 12)
    look()
    until(lambda: residency.is_resident(second.digest) and residency.is_resident(third.digest))


def test_a_store_that_fails_is_told_once_and_survived(fresh: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    from registry.errors import Unavailable

    def broken(prefix: str, start_after: str = "") -> Any:
        raise Unavailable("the store is away")

    fresh.publish("moved", 1)
    fresh.chat("moved", max_tokens=1)
    with monkeypatch.context() as patch:
        patch.setattr(fresh.registry.store, "list", broken)
        until(lambda: "the store is away" in fresh.log.getvalue())
        time.sleep(1.2)
    assert fresh.log.getvalue().count("the store is away") == 1
    second = fresh.publish("moved", 2)
    until(lambda: fresh.gateway.residency.is_resident(second.digest))


def test_a_tenant_whom_nobody_asks_costs_the_store_nothing_until_somebody_does(fresh: Running) -> None:
    now = [0.0]
    catalog, residency, log = fresh.gateway.home.catalog, fresh.gateway.residency, fresh.gateway.log
    asked = Follower(catalog, residency, [], log, clock=lambda: now[0])
    pinned = Follower(catalog, residency, ["kept"], log, clock=lambda: now[0])
    now[0] = AWAKE_S + 1
    assert (asked.is_awake(), pinned.is_awake()) == (False, True)
    asked.wake()
    assert asked.is_awake()
