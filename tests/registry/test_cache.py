"""Local copies: checked whenever used, fetched again when damaged, one fetch for many callers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from registry.adapters import Registry, Version
from registry.cache import GRACE_S, AdapterCache
from registry.errors import Corrupt, Unavailable
from tests.registry.conftest import FakeClock
from tests.registry.folders import write_folder


@pytest.fixture
def version(registry: Registry, tmp_path: Path) -> Version:
    return registry.publish("x", write_folder(tmp_path / "a"))


def test_a_folder_with_exactly_the_bytes(registry: Registry, version: Version, tmp_path: Path) -> None:
    cache = AdapterCache(tmp_path / "cache", registry)
    folder = cache.path(version)
    assert (folder / "adapter_config.json").read_bytes() == (tmp_path / "a" / "adapter_config.json").read_bytes()
    assert folder.name == version.digest.removeprefix("sha256:")
    shutil.rmtree(registry.store.url.removeprefix("file://"))
    assert cache.path(version) == folder


@pytest.mark.parametrize("damage", ["flip", "cut", "missing", "gone"])
def test_damage_is_fetched_again(registry: Registry, version: Version, tmp_path: Path, damage: str) -> None:
    cache = AdapterCache(tmp_path / "cache", registry)
    weights = cache.path(version) / "adapter_model.safetensors"
    whole = weights.read_bytes()
    if damage == "flip":
        weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    elif damage == "cut":
        weights.write_bytes(whole[:-1])
    elif damage == "missing":
        weights.unlink()
    else:
        shutil.rmtree(weights.parent)
    assert (cache.path(version) / "adapter_model.safetensors").read_bytes() == whole
    assert [path.name for path in (tmp_path / "cache" / "adapters").iterdir()] == [weights.parent.name]


def test_many_callers_fetch_once(
    registry: Registry, version: Version, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []
    chunks = registry.store.chunks

    def counting(key: str) -> Iterator[bytes]:
        fetched.append(key)
        return chunks(key)

    monkeypatch.setattr(registry.store, "chunks", counting)
    cache = AdapterCache(tmp_path / "cache", registry)
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: cache.path(version), range(16)))) == 1
    assert len(fetched) == len(version.manifest.files)


def test_processes_do_not_disturb_each_other(registry: Registry, version: Version, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        caches = [AdapterCache(tmp_path / "cache", registry) for _ in range(8)]
        folders = list(pool.map(lambda cache: cache.path(version), caches))
    assert len(set(folders)) == 1
    assert sorted(path.name for path in folders[0].parent.iterdir()) == [folders[0].name]


def test_a_damaged_store_is_named(registry: Registry, version: Version, tmp_path: Path) -> None:
    registry.store.put(version.blob_key(version.manifest.files[0].sha256), b"?")
    with pytest.raises(Corrupt, match="x@v1 is damaged"):
        AdapterCache(tmp_path / "cache", registry).path(version)


def test_a_cache_that_cannot_be_written(registry: Registry, version: Version, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(Unavailable, match="cannot write"):
        AdapterCache(tmp_path / "cache", registry).path(version)


def test_the_disk_budget_holds_and_the_latest_stay(registry: Registry, clock: FakeClock, tmp_path: Path) -> None:
    versions = [registry.publish("x", write_folder(tmp_path / str(seed), seed=seed)) for seed in range(6)]
    size = versions[0].manifest.num_bytes
    cache = AdapterCache(tmp_path / "cache", registry, byte_budget=3 * size + size // 2, clock=clock)
    for version in versions[:3]:
        cache.path(version)
        clock.now += 2 * GRACE_S
    cache.path(versions[0])
    clock.now += 2 * GRACE_S
    cache.path(versions[3])
    kept = {path.name for path in (tmp_path / "cache" / "adapters").iterdir()}
    assert kept == {versions[number].digest.removeprefix("sha256:") for number in (0, 2, 3)}
    assert cache.path(versions[1]).is_dir(), "what went comes back"


def test_what_was_asked_for_lately_is_not_removed(registry: Registry, clock: FakeClock, tmp_path: Path) -> None:
    cache = AdapterCache(tmp_path / "cache", registry, byte_budget=1, clock=clock)
    versions = [registry.publish("x", write_folder(tmp_path / str(seed), seed=seed)) for seed in range(3)]
    folders = [cache.path(version) for version in versions]
    assert all(folder.is_dir() for folder in folders)


def test_it_counts_where_files_came_from(registry: Registry, tmp_path: Path) -> None:
    version = registry.publish("x", write_folder(tmp_path / "one", seed=1))
    cache = AdapterCache(tmp_path / "cache", registry)
    for _ in range(3):
        folder = cache.path(version)
    told = cache.stats()
    assert (told.from_store, told.from_disk, told.damaged) == (1, 2, 0)
    assert told.fetched_bytes == version.manifest.num_bytes
    assert told.from_store_s > 0 < told.from_disk_s
    next(path for path in folder.iterdir() if path.suffix == ".safetensors").write_bytes(b"damaged")
    cache.path(version)
    assert (cache.stats().from_store, cache.stats().damaged) == (2, 1)
