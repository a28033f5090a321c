from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.errors import Busy, NotFound, Unavailable
from serving.residency import Residency

from .conftest import Zoo


class Shelf:
    """Fetches directories by digest and counts how often; a gate may hold loads back."""

    def __init__(self, zoo: Zoo) -> None:
        self.places = {f"sha256:{number}": path for number, path in enumerate(zoo.directories)}
        self.fetched: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None

    def __call__(self, digest: str) -> Path:
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


@pytest.fixture
def residency(zoo: Zoo, shelf: Shelf) -> Iterator[Residency]:
    residency = Residency(shelf, zoo.base, byte_budget=sum(sizes(zoo)[:3]))
    yield residency
    shelf.gate.set()
    residency.close()
    residency.check_integrity()


def test_a_thousand_first_requests_fetch_once(residency: Residency, shelf: Shelf) -> None:
    shelf.gate.clear()
    leases: list[object] = []
    threads = [threading.Thread(target=lambda: leases.append(residency.acquire("sha256:0"))) for _ in range(100)]
    for thread in threads:
        thread.start()
    shelf.gate.set()
    for thread in threads:
        thread.join()
    assert len(leases) == 100
    assert shelf.fetched == ["sha256:0"]
    assert residency.stats().misses == 1


def test_the_budget_holds_once_leases_end(residency: Residency, zoo: Zoo) -> None:
    leases = [residency.acquire(f"sha256:{number}") for number in range(6)]
    assert residency.stats().resident == 6, "what is in use is never evicted"
    for lease in leases:
        lease.release()
        lease.release()
    residency.check_integrity()
    assert residency.stats().resident_bytes <= residency.stats().byte_budget
    assert residency.stats().evictions > 0


def test_a_leased_adapter_survives_any_pressure(residency: Residency) -> None:
    with residency.acquire("sha256:0") as lease:
        for number in range(1, 8):
            residency.acquire(f"sha256:{number}").release()
        assert residency.is_resident("sha256:0")
        assert residency.acquire("sha256:0").adapter is lease.adapter


def test_try_acquire_never_waits(residency: Residency) -> None:
    assert residency.try_acquire("sha256:1") is None
    residency.acquire("sha256:1").release()
    lease = residency.try_acquire("sha256:1")
    assert lease is not None
    lease.release()


def test_a_failed_load_is_told_and_forgotten(residency: Residency, shelf: Shelf) -> None:
    shelf.error = NotFound("no such version")
    with pytest.raises(NotFound):
        residency.acquire("sha256:0")
    shelf.error = RuntimeError("disk on fire")
    with pytest.raises(Unavailable, match="disk on fire"):
        residency.acquire("sha256:0")
    shelf.error = None
    residency.acquire("sha256:0").release()
    assert len(shelf.fetched) == 3


def test_waiting_has_an_end(residency: Residency, shelf: Shelf) -> None:
    shelf.gate.clear()
    with pytest.raises(Busy):
        residency.acquire("sha256:0", timeout_s=0.05)
    shelf.gate.set()
    residency.acquire("sha256:0").release()


def test_prefetch_loads_without_a_lease(residency: Residency) -> None:
    residency.prefetch("sha256:2")
    end = time.monotonic() + 10
    while not residency.is_resident("sha256:2"):
        assert time.monotonic() < end
        time.sleep(0.002)
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
