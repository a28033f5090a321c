from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from monitoring.observation import Observation, decode
from monitoring.sensor import MAX_BATCH, Sensor
from registry.directory import DirectoryStore
from registry.errors import Unavailable


class Flaky(DirectoryStore):
    """Fails the first `failures` writes."""

    def __init__(self, root: Path, failures: int) -> None:
        super().__init__(root)
        self.failures = failures

    def create(self, key: str, data: bytes) -> bool:
        if self.failures > 0:
            self.failures -= 1
            raise Unavailable("no store")
        return super().create(key, data)


def make(i: int) -> Observation:
    embedding = np.full(4, i, dtype=np.float32)
    return Observation(
        request_id=f"r{i}", session="s", time=float(i), adapter="a", version=1, digest="d", embedding=embedding
    )


def written(store: DirectoryStore) -> list[str]:
    return [each.request_id for key in store.list("t/default/obs/") for each in decode(store.get(key))]


def test_many_threads_lose_nothing_on_close(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    sensor = Sensor(store, "default", "gw", flush_s=0.01)

    def observe(start: int) -> None:
        for i in range(start, start + 200):
            sensor.observe(make(i))

    threads = [threading.Thread(target=observe, args=(start,)) for start in range(0, 1600, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sensor.close()
    assert sorted(written(store)) == sorted(f"r{i}" for i in range(1600))
    assert (sensor.num_written, sensor.num_dropped, sensor.num_buffered) == (1600, 0, 0)


def test_it_writes_by_itself_within_the_flush_time(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    sensor = Sensor(store, "default", "gw", flush_s=0.02)
    sensor.observe(make(1))
    deadline = time.monotonic() + 5
    while not written(store) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert written(store) == ["r1"]
    sensor.close()


def test_objects_are_named_by_hour_and_time(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    sensor = Sensor(store, "default", "gw-7", clock=lambda: 1_800_000_000.0, flush_s=60)
    for i in range(MAX_BATCH + 1):
        sensor.observe(make(i))
    sensor.close()
    keys = [*store.list("")]
    assert len(keys) == 2
    assert all(key.startswith("t/default/obs/2027011508/01") and key.endswith("-gw-7.safetensors") for key in keys)


def test_an_absent_store_blocks_nobody_and_drops_only_beyond_the_buffer(tmp_path: Path) -> None:
    store = Flaky(tmp_path, failures=10**9)
    sensor = Sensor(store, "default", "gw", flush_s=0.01, max_buffered=10)
    assert [sensor.observe(make(i)) for i in range(13)] == [True] * 10 + [False] * 3
    with pytest.raises(Unavailable):
        sensor.flush()
    store.failures = 0
    sensor.close()
    assert sorted(written(store)) == sorted(f"r{i}" for i in range(10))
    assert sensor.num_dropped == 3
    assert not sensor.observe(make(99))


def test_close_retries_and_says_what_was_lost(tmp_path: Path) -> None:
    store = Flaky(tmp_path / "a", failures=2)
    sensor = Sensor(store, "default", "gw", flush_s=60, sleep=lambda _: None)
    sensor.observe(make(1))
    sensor.close()
    assert written(store) == ["r1"]
    sensor = Sensor(Flaky(tmp_path / "b", failures=99), "default", "gw", flush_s=60, sleep=lambda _: None)
    sensor.observe(make(1))
    with pytest.raises(Unavailable, match="1 observations could not be written"):
        sensor.close()
