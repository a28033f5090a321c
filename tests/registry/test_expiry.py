"""Captures go when their owner's days are over, by adapter, and no day is read twice for nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.adapters import Registry
from registry.captures import CaptureRecord, CaptureWriter, FeedbackRecord, read_captures
from registry.captures.expiry import DAY_S, Expired, Expiry
from registry.captures.upkeep import Upkeep, expire
from registry.errors import Invalid
from tests.registry.conftest import FakeClock
from tests.registry.stores import MemoryStore


class Scene:
    def __init__(self, clock: FakeClock) -> None:
        self.store = MemoryStore()
        self.clock = clock
        self.writer = CaptureWriter(self.store, "default", "gw", clock)
        self.days: dict[str, float] = {"short": 2, "long": 10}

    def day(self, *adapters: str) -> None:
        """One request to each, and feedback on it; then a day passes."""
        for adapter in adapters:
            request_id = f"{adapter}-{self.clock():.0f}"
            self.writer.request(
                CaptureRecord(
                    request_id=request_id,
                    time=self.clock(),
                    session="s",
                    adapter=adapter,
                    digest="sha256:1",
                    response="yes",
                    users=(),
                )
            )
            self.writer.feedback(FeedbackRecord(request_id=request_id, time=self.clock(), adapter=adapter, rating=1))
        self.clock.now += DAY_S

    def left(self, adapter: str) -> int:
        return len(read_captures(self.store, "default", adapter))


@pytest.fixture
def scene(clock: FakeClock) -> Scene:
    return Scene(clock)


def test_each_adapter_has_days_of_its_own(scene: Scene) -> None:
    for _ in range(5):
        scene.day("short", "long", "kept")
    expired = Expiry(scene.store, "default", scene.clock).run(scene.days.get)
    assert (scene.left("short"), scene.left("long"), scene.left("kept")) == (2, 5, 5)
    assert (expired.requests, expired.feedback) == (3, 3)
    scene.clock.now += 100 * DAY_S
    Expiry(scene.store, "default", scene.clock).run(scene.days.get)
    assert (scene.left("short"), scene.left("long"), scene.left("kept")) == (0, 0, 5)
    assert Expiry(scene.store, "default", scene.clock).run(scene.days.get) == Expired()


def test_an_object_of_which_nothing_stays_is_deleted(scene: Scene) -> None:
    scene.day("short")
    scene.clock.now += 3 * DAY_S
    Expiry(scene.store, "default", scene.clock).run(scene.days.get)
    assert list(scene.store.list("t/default/captures/")) == []


def test_a_run_that_finds_nothing_due_reads_nothing(scene: Scene) -> None:
    for _ in range(4):
        scene.day("long", "kept")
    expiry = Expiry(scene.store, "default", scene.clock)
    expiry.run(scene.days.get)
    before = scene.store.num_gets
    for _ in range(3):
        assert expiry.run(scene.days.get) == Expired()
    assert scene.store.num_gets == before
    scene.days["kept"] = 1
    assert expiry.run(scene.days.get).requests == 3, "a policy that changes is obeyed"
    scene.clock.now += 20 * DAY_S
    assert expiry.run(scene.days.get).requests == 5


def test_many_gateways_at_once(scene: Scene) -> None:
    for _ in range(6):
        scene.day("short", "long", "kept")
    runs = [Expiry(scene.store, "default", scene.clock) for _ in range(6)]
    threads = [threading.Thread(target=each.run, args=(scene.days.get,)) for each in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (scene.left("short"), scene.left("long"), scene.left("kept")) == (2, 6, 6)


@given(
    st.lists(st.lists(st.sampled_from(["short", "long", "kept"]), max_size=4, unique=True), max_size=8),
    st.dictionaries(st.sampled_from(["short", "long"]), st.integers(1, 9)),
)
def test_what_is_left_is_what_is_young_enough(history: list[list[str]], days: dict[str, int]) -> None:
    scene = Scene(FakeClock())
    for adapters in history:
        scene.day(*adapters)
    Expiry(scene.store, "default", scene.clock).run(days.get)
    for adapter in ("short", "long", "kept"):
        ages = [len(history) - index for index, adapters in enumerate(history) if adapter in adapters]
        assert scene.left(adapter) == sum(age <= days.get(adapter, 100) for age in ages)


@pytest.fixture
def registry(clock: FakeClock) -> Registry:
    opened = Registry(MemoryStore(), clock=clock, actor="tests")
    opened.set_policy("short", {"capture": True, "capture_days": 2})
    opened.set_policy("kept", {"capture": True, "capture_days": 0})
    return opened


def test_policies_are_asked(registry: Registry, clock: FakeClock) -> None:
    scene = Scene(clock)
    scene.store = registry.store  # type: ignore[assignment]
    scene.writer = CaptureWriter(registry.store, "default", "gw", clock)
    for _ in range(5):
        scene.day("short", "kept", "unheard-of")
    tended = Upkeep(registry).run()
    assert tended.expired.requests == 3
    assert (scene.left("short"), scene.left("kept"), scene.left("unheard-of")) == (2, 5, 5)
    assert expire(registry, "kept").requests == 0
    assert expire(registry, "kept", 4).requests == 1
    scene.writer.feedback(FeedbackRecord(request_id="today", time=clock(), adapter="kept", rating=1))
    clock.now += 1
    assert expire(registry, "kept", 0).feedback >= 1
    assert scene.left("kept") == 0
    with pytest.raises(Invalid, match="one adapter"):
        expire(registry, None, 3)


def test_the_clock_of_records_counts_not_that_of_objects(clock: FakeClock) -> None:
    """A batch that waited for a store that was away lies under the day on which it was written."""
    scene = Scene(clock)
    old: Callable[[float], CaptureRecord] = lambda age: CaptureRecord(  # noqa: E731
        request_id=f"r{age}", time=clock() - age * DAY_S, session="s", adapter="short", digest="d", response="y"
    )
    for age in (0.5, 3):
        scene.writer.request(old(age))
    scene.writer.flush()
    clock.now += DAY_S
    assert Expiry(scene.store, "default", clock).run(scene.days.get).requests == 1
