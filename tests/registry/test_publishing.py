"""Publishing: atomic, idempotent, and nothing half-visible after kill -9 at any step."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from registry.adapters import Registry
from registry.directory import DirectoryStore
from registry.errors import Conflict, Corrupt, Invalid, NotFound, Unavailable
from registry.manifest import DatasetRecord, Parent, digest
from registry.store import Store, open_store
from tests.registry import publisher
from tests.registry.conftest import STORES
from tests.registry.folders import PROFILE, write_folder
from tests.registry.stores import Down, Flaky, Wrapper
from tests.rgw import Rgw


def test_a_version_carries_what_it_was_made_of(registry: Registry, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "a")
    (folder / "evidence.json").write_text("{}")
    version = registry.publish(
        "support",
        folder,
        parent=Parent(adapter="support", digest="sha256:" + "1" * 64),
        dataset=DatasetRecord(uri="lorimer:x", sha256="2" * 64, rows=7, counts={"train": 5}),
        trainer={"seed": 1, "lr": 1e-3},
        metrics={"accuracy": 0.75},
        evidence="evidence.json",
        trigger="episode-1",
        aliases={"prod": None, "canary": msgspec.UNSET},
        policy={"capture": True, "min_examples": 8},
        reason="first",
    )
    assert (version.number, version.name) == (1, "support@v1")
    assert version.digest == digest(version.manifest)
    assert registry.resolve("support") == registry.resolve("support@canary") == version
    assert registry.policy("support").min_examples == 8
    (event,) = registry.log("support")
    assert len(event.ops) == 4
    assert event.aliases == {"prod": {version.digest: 1.0}, "canary": {version.digest: 1.0}}
    assert event.next_version == 2


def test_the_same_bytes_are_the_same_version(registry: Registry, tmp_path: Path) -> None:
    first = registry.publish("x", write_folder(tmp_path / "a"), aliases={"prod": None})
    again = registry.publish("x", write_folder(tmp_path / "b"), aliases={"prod": None})
    assert again == first
    assert len(registry.log("x")) == 1
    other = registry.publish("x", write_folder(tmp_path / "c", seed=3))
    assert (other.number, registry.resolve("x").number) == (2, 1)
    assert registry.publish("x", tmp_path / "c", aliases={"prod": first.digest}).number == 2
    assert registry.resolve("x").number == 2


def test_the_digest_does_not_depend_on_the_place(registry: Registry, tmp_path: Path) -> None:
    other = Registry(DirectoryStore(tmp_path / "elsewhere"), tenant="other")
    other.register_base(PROFILE)
    folder = write_folder(tmp_path / "a")
    assert registry.publish("x", folder).digest == other.publish("y", folder).digest


def test_a_lost_compare_and_swap_publishes_nothing(registry: Registry, tmp_path: Path) -> None:
    first = registry.publish("x", write_folder(tmp_path / "a"), aliases={"prod": None})
    before = set(registry.store.list(""))
    with pytest.raises(Conflict) as caught:
        registry.publish("x", write_folder(tmp_path / "b", seed=1), aliases={"prod": None})
    assert caught.value.actual == first.digest
    assert set(registry.store.list("")) == before


def test_an_alias_moved_during_the_upload_is_a_conflict(registry: Registry, tmp_path: Path) -> None:
    first = registry.publish("x", write_folder(tmp_path / "a"), aliases={"prod": None})
    second = registry.publish("x", write_folder(tmp_path / "b", seed=1))
    moved = []

    def move(done: int, total: int) -> None:
        if not moved:
            moved.append(registry.alias("x", "prod", "v2"))

    with pytest.raises(Conflict) as caught:
        registry.publish("x", write_folder(tmp_path / "c", seed=2), aliases={"prod": first.digest}, progress=move)
    assert caught.value.actual == second.digest
    assert len(registry.state("x").versions) == 2


def test_bad_evidence_and_metrics(registry: Registry, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "a")
    with pytest.raises(Invalid, match="evidence"):
        registry.publish("x", folder, evidence="nothing.json")
    with pytest.raises(Invalid, match="canonical"):
        registry.publish("x", folder, metrics={"loss": float("nan")})
    with pytest.raises(Invalid, match="policy"):
        registry.publish("x", folder, policy={"nonsense": 1})
    with pytest.raises(NotFound):
        registry.state("x")


def test_concurrent_publishers_get_consecutive_numbers(registry: Registry, tmp_path: Path) -> None:
    folders = [write_folder(tmp_path / str(seed), seed=seed % 4) for seed in range(8)]

    def publish(folder: Path) -> int:
        mine = Registry(DirectoryStore(tmp_path / "store"))
        return mine.publish("x", folder).number

    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(publish, folders))
    assert numbers[:4] == numbers[4:]
    assert sorted(numbers[:4]) == [1, 2, 3, 4]
    assert registry.verify("x").num_versions == 4


class Damaging(Wrapper):
    """Stores something else than it was given."""

    def create_file(self, key: str, path: Path) -> bool:
        return self.inner.create(key, path.read_bytes()[:-1] + b"?")


def test_a_store_that_damages_uploads_is_caught_before_the_commit(registry: Registry, tmp_path: Path) -> None:
    damaging = Registry(Damaging(registry.store))
    with pytest.raises(Corrupt, match="not what was validated"):
        damaging.publish("x", write_folder(tmp_path / "a"))
    with pytest.raises(NotFound):
        registry.state("x")


@pytest.mark.parametrize(
    "fates", [["unheard"], ["lost"], ["late", "lost"], ["fine", "unheard"], ["fine", "late", "late"]]
)
def test_lost_replies_do_not_publish_twice(registry: Registry, tmp_path: Path, fates: list[str]) -> None:
    flaky = Registry(Flaky(registry.store, fates))
    version = flaky.publish("x", write_folder(tmp_path / "a"), aliases={"prod": None})
    assert (version.number, len(registry.log("x"))) == (1, 1)


def test_a_store_that_is_down(registry: Registry, tmp_path: Path) -> None:
    down = Down(registry.store)
    with pytest.raises(Unavailable, match="down"):
        Registry(down).publish("x", write_folder(tmp_path / "a"))
    down.down = False
    assert Registry(down).publish("x", tmp_path / "a").number == 1


def check_after_kill(store: Store, work: Path) -> bool:
    """Whole before or whole after, never between; a rerun completes either way. Whether the kill came after."""
    registry = Registry(store)
    state = registry.state("x")
    committed = len(state.versions) == 2
    assert registry.verify("x").num_versions == len(state.versions)
    assert registry.resolve("x").number == len(state.versions)
    assert bool(state.policy) == committed
    publisher.publish(store, work)
    again = Registry(store).state("x")
    assert [version.number for version in again.versions] == [1, 2]
    assert again.aliases == {"prod": again.versions[1].digest}
    assert len(Registry(store).log("x")) == 2
    assert registry.verify("x").num_versions == 2
    return committed


def run_publisher(kind: str, work: Path, *more: str) -> int:
    command = [sys.executable, "-m", "tests.registry.publisher", kind, str(work), *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def check_all(place: Callable[[int], Store], num_killed: int, work: Path) -> None:
    outcomes = [check_after_kill(place(kill_at), work) for kill_at in range(num_killed)]
    assert outcomes == sorted(outcomes), "once committed, later kills find it committed"
    assert not outcomes[0]
    assert outcomes[-1]


def test_kill_9_before_every_system_call(tmp_path: Path) -> None:
    num_killed = run_publisher("os", tmp_path)
    assert num_killed > 16
    check_all(lambda kill_at: DirectoryStore(tmp_path / str(kill_at)), num_killed, tmp_path)


@pytest.mark.s3
def test_kill_9_before_every_request(rgw: Rgw, tmp_path: Path) -> None:
    url = f"s3://{rgw.bucket}/kill"
    num_killed = run_publisher("store", tmp_path, url, rgw.endpoint)
    assert num_killed >= 8
    check_all(lambda kill_at: open_store(f"{url}/{kill_at}", s3_endpoint=rgw.endpoint), num_killed, tmp_path)


@pytest.mark.parametrize("open_again", STORES, indirect=True)
def test_the_whole_way_on_every_store(store: Store, tmp_path: Path) -> None:
    registry = Registry(store)
    registry.register_base(PROFILE)
    for seed in (1, 2):
        registry.publish("x", write_folder(tmp_path / str(seed), seed=seed), aliases={"prod": msgspec.UNSET})
    assert registry.resolve("x").number == 2
    assert registry.rollback("x").number == 1
    assert registry.list()[0].aliases == {"prod": 1}
    pulled = registry.pull("x@v2", tmp_path / "pulled")
    assert pulled.number == 2
    weights = "adapter_model.safetensors"
    assert (tmp_path / "pulled" / weights).read_bytes() == (tmp_path / "2" / weights).read_bytes()
    registry.delete("x", "v2")
    assert registry.verify("x").num_events == 4
