from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from registry.errors import Busy, NotFound, Refused, Unavailable
from serving.adapter import LoadedAdapter
from serving.blueprint import SlabDeltas
from serving.lease import Lease, give_up
from serving.loaders import Loaders
from serving.residency import LOADERS, Residency

from .conftest import Zoo


class Shelf:
    """Fetches directories by digest and counts how often; a gate may hold loads back."""

    def __init__(self, zoo: Zoo) -> None:
        self.places = {f"sha256:{number}": path for number, path in enumerate(zoo.directories)}
        self.asked: list[str] = []
        self.fetched: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None

    def __call__(self, digest: str) -> Path:
        self.asked.append(digest)
        assert self.gate.wait(10)
        self.fetched.append(digest)
        if self.error is not None:
            raise self.error
        return self.places[digest]


@pytest.fixture
def shelf(zoo: Zoo) -> Shelf:
    return Shelf(zoo)


def sizes(zoo: Zoo) -> list[int]:
    return [adapter.num_bytes for adapter in zoo.adapters]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def residency(zoo: Zoo, shelf: Shelf, clock: Clock) -> Iterator[Residency]:
    residency = Residency(shelf, zoo.base, byte_budget=sum(sizes(zoo)[:3]), patience_s=0.05, clock=clock)
    yield residency
    shelf.gate.set()
    residency.close()
    residency.check_integrity()


def until(holds: Callable[[], bool], timeout_s: float = 10.0) -> None:
    end = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_a_thousand_first_requests_fetch_once(residency: Residency, shelf: Shelf) -> None:
    shelf.gate.clear()
    pending = [residency.request("sha256:0") for _ in range(1000)]
    shelf.gate.set()
    leases = [each.result(10) for each in pending]
    assert shelf.fetched == ["sha256:0"]
    assert len({id(lease.adapter) for lease in leases}) == 1
    assert residency.stats().leased == 1
    for lease in leases:
        lease.release()
    assert residency.stats().leased == 0


def test_threads_that_race_for_one_adapter_fetch_once(residency: Residency, shelf: Shelf) -> None:
    shelf.gate.clear()
    leases: list[Lease] = []
    threads = [threading.Thread(target=lambda: leases.append(residency.acquire("sha256:0"))) for _ in range(50)]
    for thread in threads:
        thread.start()
    shelf.gate.set()
    for thread in threads:
        thread.join()
    assert len(leases) == 50
    assert shelf.fetched == ["sha256:0"]


def test_the_budget_holds_once_leases_end(residency: Residency, zoo: Zoo) -> None:
    leases = [residency.acquire(f"sha256:{number}") for number in range(6)]
    assert residency.stats().resident == 6, "what is in use is never evicted"
    for lease in leases:
        lease.release()
        lease.release()
    residency.check_integrity()
    assert residency.stats().resident_bytes <= residency.stats().byte_budget
    assert residency.stats().evictions > 0


def test_a_load_takes_over_the_pages_of_what_it_evicts_unless_somebody_looks_at_them(
    zoo: Zoo, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.residency.LOADERS", 1)
    shelf.places |= {digest: zoo.directories[number] for digest, number in (("one", 0), ("two", 0), ("three", 0))}
    residency = Residency(shelf, zoo.base, byte_budget=zoo.adapters[0].num_bytes)

    def load(digest: str) -> SlabDeltas:
        with residency.acquire(digest) as lease:
            assert isinstance(lease.adapter.deltas, SlabDeltas)
            return lease.adapter.deltas

    place = load("one").memory.data_ptr()
    held = load("two")
    assert held.memory.data_ptr() == place
    before = held.memory.clone()
    assert load("three").memory.data_ptr() != place
    assert torch.equal(held.memory, before)
    residency.close()


def test_a_leased_adapter_survives_any_pressure(residency: Residency) -> None:
    with residency.acquire("sha256:0") as lease:
        for number in range(1, 8):
            residency.acquire(f"sha256:{number}").release()
        assert residency.is_resident("sha256:0")
        assert residency.acquire("sha256:0").adapter is lease.adapter


def test_what_is_here_is_leased_at_once(residency: Residency) -> None:
    residency.request("sha256:1").result(10).release()
    with residency.request("sha256:1").result(0):
        assert residency.stats().hits == 1


def test_a_failed_load_is_told_and_retried_ever_later(residency: Residency, shelf: Shelf, clock: Clock) -> None:
    """Were every request to try anew, a broken adapter under traffic would hammer the store."""
    shelf.error = NotFound("no such version")
    for tries, wait_s in enumerate((0.5, 1.0, 2.0, 4.0), start=1):
        for _ in range(20):
            with pytest.raises(NotFound, match="no such version"):
                residency.acquire("sha256:0")
        assert len(shelf.fetched) == tries
        clock.now += wait_s * 0.9
        with pytest.raises(NotFound):
            residency.acquire("sha256:0")
        assert len(shelf.fetched) == tries
        clock.now += wait_s * 0.2
    shelf.error = None
    residency.acquire("sha256:0").release()
    assert residency.stats().failures == 4
    assert residency.stats().held_back == 4 * 20
    shelf.error = RuntimeError("disk on fire")
    with pytest.raises(Unavailable, match="disk on fire"):
        residency.acquire("sha256:1")


def test_a_failure_reaches_all_who_wait(residency: Residency, shelf: Shelf) -> None:
    shelf.gate.clear()
    shelf.error = NotFound("no such version")
    pending = [residency.request("sha256:0") for _ in range(10)]
    shelf.gate.set()
    for each in pending:
        with pytest.raises(NotFound):
            each.result(10)
    assert shelf.fetched == ["sha256:0"]


def test_loads_wait_for_room_before_they_exceed_the_budget(zoo: Zoo, shelf: Shelf) -> None:
    residency = Residency(shelf, zoo.base, byte_budget=sizes(zoo)[0], patience_s=30)
    first = residency.acquire("sha256:0")
    pending = residency.request("sha256:1")
    until(lambda: shelf.fetched == ["sha256:0", "sha256:1"])
    time.sleep(0.05)
    assert not pending.done()
    first.release()
    with pending.result(10):
        assert not residency.is_resident("sha256:0")
        stats = residency.stats()
        assert (stats.overdrafts, stats.evictions) == (0, 1)
        assert stats.peak_bytes <= stats.byte_budget
    residency.close()


def test_an_overdraft_is_counted(residency: Residency, zoo: Zoo) -> None:
    leases = [residency.acquire(f"sha256:{number}") for number in range(4)]
    stats = residency.stats()
    assert stats.overdrafts == 1
    assert stats.peak_bytes == sum(sizes(zoo)[:4]) > stats.byte_budget
    residency.check_integrity()
    for lease in leases:
        lease.release()


def test_what_can_never_fit_is_refused(zoo: Zoo, shelf: Shelf) -> None:
    residency = Residency(shelf, zoo.base, byte_budget=sizes(zoo)[0] - 1)
    with pytest.raises(Refused, match="more than the whole budget"):
        residency.acquire("sha256:0")
    assert residency.stats().peak_bytes == 0
    residency.close()


def test_a_prefetch_is_dropped_when_there_is_no_room(residency: Residency, shelf: Shelf) -> None:
    leases = [residency.acquire(f"sha256:{number}") for number in range(3)]
    residency.prefetch("sha256:3")
    until(lambda: residency.stats().loading == 0)
    assert not residency.is_resident("sha256:3")
    assert residency.stats().overdrafts == 0
    for lease in leases:
        lease.release()


def test_a_pin_outlasts_pressure(residency: Residency) -> None:
    residency.pin("sha256:1")
    until(lambda: residency.is_resident("sha256:1"))
    for number in (0, 2, 3, 4, 5):
        residency.acquire(f"sha256:{number}").release()
    assert residency.is_resident("sha256:1")
    assert residency.stats().pinned == 1
    residency.unpin("sha256:1")
    for number in (0, 2, 3, 4, 5) * 3:
        residency.acquire(f"sha256:{number}").release()
    assert not residency.is_resident("sha256:1")


def test_waiters_come_before_prefetches(zoo: Zoo, shelf: Shelf) -> None:
    residency = Residency(shelf, zoo.base, byte_budget=sum(sizes(zoo)))
    shelf.gate.clear()
    for number in range(6):
        residency.prefetch(f"sha256:{number}")
    until(lambda: len(shelf.asked) == LOADERS)
    pending = residency.request("sha256:5")
    shelf.gate.set()
    pending.result(10).release()
    assert "sha256:5" in shelf.fetched[: LOADERS + 1]
    until(lambda: residency.stats().resident == 6)
    assert len(shelf.fetched) == 6, "a prefetch that became urgent is loaded once"
    residency.close()


def test_closing_does_not_wait_for_a_store_that_hangs(zoo: Zoo, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.residency.CLOSE_S", 0.05)
    residency = Residency(shelf, zoo.base, byte_budget=sum(sizes(zoo)))
    shelf.gate.clear()
    pending = [residency.request(f"sha256:{number}") for number in range(5)]
    started = time.monotonic()
    residency.close()
    assert time.monotonic() - started < 5
    for each in pending:
        with pytest.raises(Unavailable, match="shutting down"):
            each.result(0)
    with pytest.raises(Unavailable):
        residency.request("sha256:0")
    shelf.gate.set()


def test_whoever_gives_up_leaves_no_lease(residency: Residency, shelf: Shelf) -> None:
    shelf.gate.clear()
    pending = [residency.request("sha256:0") for _ in range(5)]
    for each in pending[:3]:
        give_up(each)
    shelf.gate.set()
    for each in pending[3:]:
        each.result(10).release()
    give_up(residency.request("sha256:0"))
    assert residency.stats().leased == 0
    residency.check_integrity()


def test_something_composed_shares_the_budget(residency: Residency, zoo: Zoo) -> None:
    made: list[int] = []

    def make(reserve: Callable[[int], None]) -> LoadedAdapter:
        reserve(zoo.adapters[4].num_bytes)
        made.append(4)
        return zoo.adapters[4]

    for _ in range(2):
        with residency.request("mix:4", make).result(10) as lease:
            assert lease.adapter is zoo.adapters[4]
    assert made == [4]
    assert residency.stats().resident_bytes == zoo.adapters[4].num_bytes


def test_a_loader_computes_on_one_thread_and_leaves_the_others_theirs() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        loaders = Loaders(2)
        seen: list[int] = []
        loaders.submit(lambda: seen.append(torch.get_num_threads()), urgent=True)
        until(lambda: bool(seen))
        later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        later.start()
        later.join()
        assert seen == [1, 2]
        assert torch.get_num_threads() == 2
        loaders.close(5)
    finally:
        torch.set_num_threads(before)


def test_waiting_has_an_end(residency: Residency, shelf: Shelf) -> None:
    shelf.gate.clear()
    with pytest.raises(Busy):
        residency.acquire("sha256:0", timeout_s=0.05)
    shelf.gate.set()
    residency.acquire("sha256:0").release()


def test_prefetch_loads_without_a_lease(residency: Residency) -> None:
    residency.prefetch("sha256:2")
    until(lambda: residency.is_resident("sha256:2"))
    assert residency.stats().leased == 0


def test_random_traffic_keeps_the_accounts(residency: Residency) -> None:
    def client(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(60):
            with residency.acquire(f"sha256:{rng.randrange(8)}") as lease:
                assert lease.adapter.num_bytes > 0

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    residency.check_integrity()
    assert residency.stats().leased == 0
    assert residency.stats().hits + residency.stats().misses == 360
