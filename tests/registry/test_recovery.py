"""A copy of the bucket is a registry: everything derived can be missing or wrong, and is made again."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.adapters import Registry
from registry.directory import DirectoryStore
from registry.errors import Corrupt
from registry.store import Store
from tests.registry.conftest import REAL_STORES, OpenAgain
from tests.registry.folders import PROFILE, write_folder

DERIVED = ("/ckpt/", "/HEAD", "/catalog/", "/dirty/", "/pins/")


def restore(source: Store, target: Store, *, without: tuple[str, ...] = ()) -> None:
    """What a backup does: every object under its key."""
    for key in source.list(""):
        if not any(part in key for part in without):
            target.create(key, source.get(key))


@pytest.fixture
def lived(open_again: OpenAgain, tmp_path: Path) -> Registry:
    registry = Registry(open_again())
    registry.init()
    registry.register_base(PROFILE)
    for name in ("a", "b"):
        for seed in (1, 2):
            registry.publish(name, write_folder(tmp_path / f"{name}{seed}", seed=seed), tags={"name": name})
        registry.alias(name, "prod", "v2")
        registry.alias(name, "prod", "v1")
    for _ in range(70):
        registry.alias("a", "canary", "v2")
    registry.list()
    return registry


@pytest.mark.parametrize("open_again", REAL_STORES, indirect=True)
@pytest.mark.parametrize("without", [(), DERIVED], ids=["whole", "without what is derived"])
def test_a_restored_copy_is_the_registry(lived: Registry, tmp_path: Path, without: tuple[str, ...]) -> None:
    there = DirectoryStore(tmp_path / "restored")
    restore(lived.store, there, without=without)
    registry = Registry(there)
    assert [registry.verify(name) for name in "ab"] == [lived.verify(name) for name in "ab"]
    registry.catalog.rebuild()
    assert registry.list() == lived.list()
    assert registry.resolve("a") == lived.resolve("a")
    assert registry.rollback("a").number == 2
    assert registry.publish("a", write_folder(tmp_path / "new", seed=3)).number == 3


@pytest.mark.parametrize("open_again", ["directory"], indirect=True)
def test_a_copy_that_lacks_a_blob_says_which(lived: Registry, tmp_path: Path) -> None:
    there = DirectoryStore(tmp_path / "restored")
    version = lived.resolve("b@v2")
    lost = version.blob_key(version.manifest.files[1].sha256)
    restore(lived.store, there, without=(lost,))
    with pytest.raises(Corrupt, match=lost.rpartition("/")[2]):
        Registry(there).verify("b")
    assert Registry(there).verify("a").num_versions == 2
