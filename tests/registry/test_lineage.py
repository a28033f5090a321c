"""Lineage: from any digest to its data, parents and every alias it ever had; and what was served at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.adapters import Registry
from registry.changes import move, retire
from registry.consent import review
from registry.errors import NotFound
from registry.gc import collect
from registry.lineage import trace
from registry.manifest import DatasetRecord, Parent
from tests.registry.conftest import FakeClock
from tests.registry.folders import write_folder


@pytest.fixture
def told(registry: Registry, clock: FakeClock, tmp_path: Path) -> Registry:
    """Three generations, a moment apart: other@v1 -> x@v1 -> x@v2; prod moves with them, in part."""

    def publish(name: str, seed: int, parent: Parent | None = None, **more: object) -> Parent:
        clock.now += 10.0
        data = DatasetRecord(uri=f"lorimer:{seed}", sha256=f"{seed}" * 64, rows=seed)
        version = registry.publish(
            name, write_folder(tmp_path / f"v{seed}", seed=seed), parent=parent, dataset=data, **more
        )  # type: ignore[arg-type]
        return Parent(adapter=name, digest=version.digest)

    first = publish("other", 1, metrics={"loss": 0.5})
    second = publish("x", 2, first, aliases={"prod": None}, reason="first")
    publish("x", 3, second, trigger="episode-7")
    clock.now += 10.0
    registry.alias("x", "prod", {"v2": 5, "v1": 95}, reason="canary")
    clock.now += 10.0
    registry.alias("x", "prod", "v2", reason="better")
    return registry


def test_from_a_version_to_everything_before_it(told: Registry) -> None:
    lineage = trace(told, "x")
    assert lineage.version.name == "x@v2"
    assert lineage.version.manifest.trigger == "episode-7"
    assert [(each.adapter, each.number, each.deleted) for each in lineage.parents] == [
        ("x", 1, False),
        ("other", 1, False),
    ]
    assert [each.dataset.uri for each in lineage.parents if each.dataset] == ["lorimer:2", "lorimer:1"]
    assert trace(told, "other@v1").children == (), "children are told of the same adapter"
    assert trace(told, "x@v1").children == ("x@v2",)
    assert (lineage.deleted, lineage.published_by) == (None, "test")


def test_every_alias_it_ever_had(told: Registry, clock: FakeClock) -> None:
    now = clock.now
    held = [(each.alias, each.weight, each.since, each.until, each.reason) for each in trace(told, "x@v1").holdings]
    assert held == [("prod", 1.0, now - 30, now - 10, "first"), ("prod", 0.95, now - 10, now, "canary")]
    two = trace(told, "x@v2").holdings
    assert [(each.weight, each.until) for each in two] == [(0.05, now), (1.0, None)]


def test_from_a_digest_alone_even_when_the_version_is_gone(told: Registry, clock: FakeClock) -> None:
    first, second = told.resolve("x@v1"), told.resolve("x@v2")
    clock.now += 10
    told.commit("x", move("prod", None), retire("v2", reason="wrong data"), retire("v1"))
    for ref in (second.digest, second.digest[:15], f"x@{second.digest}", "x@v2"):
        lineage = trace(told, ref)
        assert lineage.version == second
        assert lineage.deleted is not None
        assert (lineage.deleted.reason, lineage.deleted.time) == ("wrong data", clock.now)
        assert [each.deleted for each in lineage.parents] == [True, False]
        assert lineage.holdings[-1].until == clock.now
    collect(told, grace_s=0.0)
    assert trace(told, f"x@{first.digest}").version == first, "the log outlives the bytes"
    with pytest.raises(NotFound, match="ADAPTER@DIGEST"):
        trace(told, first.digest)
    with pytest.raises(NotFound):
        trace(told, "x@v9")


def test_bytes_that_were_published_again(told: Registry, tmp_path: Path) -> None:
    other = trace(told, "other@v1").version
    told.delete("other", "v1", reason="mistake")
    again = told.publish("other", tmp_path / "v1", dataset=other.manifest.dataset, metrics=other.manifest.metrics)
    assert (again.number, again.digest) == (2, other.digest)
    lineage = trace(told, f"other@{other.digest}")
    assert (lineage.version.number, lineage.deleted) == (2, None)
    earlier = trace(told, "other@v1")
    assert earlier.deleted is not None
    assert earlier.deleted.reason == "mistake"


def test_reviews_quarantine_and_unknown_parents(told: Registry, tmp_path: Path) -> None:
    stranger = Parent(adapter="elsewhere", digest="sha256:" + "1" * 64)
    version = told.publish("y", write_folder(tmp_path / "y", seed=9), parent=stranger)
    told.commit("y", review("v1", "approve", "fine"))
    told.quarantine("y", "v1", "not fine")
    lineage = trace(told, "y@v1")
    assert [(each.verdict, each.note) for each in lineage.reviews] == [("approve", "fine")]
    assert lineage.quarantined == "not fine"
    assert [(each.adapter, each.number) for each in lineage.parents] == [("elsewhere", None)]
    assert lineage.version == version


def test_what_was_prod_then(told: Registry, clock: FakeClock) -> None:
    now = clock.now
    assert told.resolve("x", at=now).number == 2
    assert told.resolve("x", at=now - 5).number == 1, "of several, the heaviest"
    assert told.state("x", at=now - 5).standing("prod")[told.resolve("x@v2").digest] == 0.05
    assert told.resolve("x", at=now - 25).number == 1
    with pytest.raises(NotFound):
        told.resolve("x@v2", at=now - 25)
    with pytest.raises(NotFound):
        told.resolve("x", at=now - 100)
    second = told.resolve("x@v2")
    clock.now += 10
    told.commit("x", move("prod", "v1"), retire("v2"))
    assert told.resolve("x", at=now) == second, "what is deleted since was served then"


def test_a_clock_that_was_behind_does_not_reorder_history(told: Registry, clock: FakeClock) -> None:
    """An event is never before the one that it follows."""
    now = clock.now
    clock.now -= 40
    told.alias("x", "prod", "v1")
    assert told.resolve("x", at=now - 1).number == 1
    assert told.resolve("x", at=now).number == 1
    clock.now = now
    assert told.resolve("x").number == 1
