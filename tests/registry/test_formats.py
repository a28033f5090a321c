"""What earlier releases wrote is read for ever, and goes on where it stopped."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from registry.adapters import Registry, open_registry
from registry.canonical import canonical, sha256, sha256_file
from registry.directory import DirectoryStore
from registry.errors import Refused
from registry.jobs import Jobs
from registry.marker import FORMAT, read_marker, upgrade
from registry.settings import Settings
from tests.registry.folders import PROFILE, write_folder

HERE = Path(__file__).parent / "formats"


@pytest.fixture
def first(tmp_path: Path) -> Settings:
    """A copy of a registry that release 0.1.0 wrote."""
    shutil.copytree(HERE / "1", tmp_path / "store")
    return Settings(store=f"file://{tmp_path}/store", cache_dir=str(tmp_path / "cache"))


def test_format_1_reads_as_it_was_written(first: Settings, tmp_path: Path) -> None:
    registry = open_registry(first)
    marker = read_marker(registry.store)
    assert (marker.format, marker.mode, marker.verdict.passed) == (1, "writable", True)
    state = registry.state("support")
    one, two = state.versions
    assert (one.number, two.number, state.next_version) == (1, 2, 4)
    assert state.aliases == {"prod": one.digest}
    assert two.manifest.parent is not None
    assert two.manifest.parent.digest == one.digest
    assert (one.manifest.metrics, one.manifest.tags) == ({"test/accuracy": 0.75}, {"team": "help"})
    assert one.manifest.dataset is not None
    assert one.manifest.dataset.counts == {"train": 8, "test": 2}
    assert [(move.alias, move.reason, move.rollback) for move in state.alias_history][1:3] == [
        ("prod", "besser für alle", False),
        ("prod", "complaints", True),
    ]
    assert registry.policy("support").capture
    assert registry.policy("quiet").retrain == "off"
    assert [summary.adapter for summary in registry.list()] == ["quiet", "support"]
    assert len(registry.log("support")) == 7
    assert Jobs(registry.store).get("j1").state == "succeeded"
    assert registry.bases()[0] == PROFILE
    registry.pull("support", tmp_path / "out")
    assert (tmp_path / "out" / "adapter_config.json").is_file()


def test_format_1_is_whole(first: Settings) -> None:
    report = open_registry(first).verify("support")
    assert (report.num_events, report.num_versions, report.num_blobs, report.num_bytes) == (7, 2, 4, 1960)
    assert report.head == "d46f26a644c8d5d677b5ee5e923e69416b40aefdc345e59d2d0da10b1667c606"


def test_format_1_goes_on(first: Settings, tmp_path: Path) -> None:
    registry = open_registry(first)
    assert registry.publish("support", write_folder(tmp_path / "one", seed=4)).number == 4
    registry.alias("support", "prod", "v4", expect="v1")
    assert registry.rollback("support").number == 1
    with pytest.raises(Refused, match="registry upgrade"):
        registry.quarantine("support", "v2", "no")
    upgrade(registry.store)
    upgraded = open_registry(first)
    upgraded.quarantine("support", "v2", "no")
    assert upgraded.verify("support").num_events == 11
    assert read_marker(registry.store).format == FORMAT


def test_the_fold_of_every_format_is_the_same_from_any_start(first: Settings) -> None:
    registry = open_registry(first)
    assert registry.adapter_log("support").verify() == registry.adapter_log("support").position()
    assert Registry(DirectoryStore(HERE / "1")).state("support") == registry.state("support")


def test_nobody_mends_the_past() -> None:
    files = sorted(file.relative_to(HERE / "1").as_posix() for file in (HERE / "1").rglob("*") if file.is_file())
    listed = [(name, sha256_file(HERE / "1" / name)) for name in files]
    assert len(listed) == 26
    assert sha256(canonical(listed)) == "ffc4d8c91a49b66da3d96fc95b4b15dbe76a42ad443debce4786c178d52bc425"
