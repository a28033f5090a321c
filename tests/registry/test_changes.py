"""Changes: aliases over several versions, quarantine, several changes in one event, blobs stored once."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from registry import changes
from registry.adapters import Registry
from registry.changes import move, retire
from registry.errors import Conflict, Invalid, NotFound, Refused
from registry.ops import Delete, MoveAlias, Publish, format_of
from registry.retention import Retention
from registry.store import Store
from tests.registry.conftest import REAL_STORES
from tests.registry.folders import PROFILE, write_folder


@pytest.fixture
def three(registry: Registry, tmp_path: Path) -> Registry:
    """Adapter x with versions 1, 2, 3; prod = 1."""
    for seed in (1, 2, 3):
        registry.publish("x", write_folder(tmp_path / f"v{seed}", seed=seed))
    registry.alias("x", "prod", "v1")
    return registry


def digests(registry: Registry) -> list[str]:
    return [version.digest for version in registry.state("x").versions]


def test_an_alias_over_several_versions(three: Registry) -> None:
    one, two, _ = digests(three)
    event = three.alias("x", "prod", {"v2": 5, "v1": 95}, expect="v1", reason="canary")
    assert event.v == 2
    assert event.aliases == {"prod": {one: 0.95, two: 0.05}}
    state = three.state("x")
    assert (state.aliases["prod"], state.splits) == (one, {"prod": {one: 0.95, two: 0.05}})
    assert three.resolve("x").number == 1
    assert (state.aliases_of(one), state.aliases_of(two)) == (["prod"], ["prod"])
    with pytest.raises(Refused, match="x@v2 is aliased prod"):
        three.delete("x", "v2")
    assert Registry(three.store).state("x") == state, "written and read alike"


def test_a_split_is_compared_whole(three: Registry) -> None:
    one, two, _ = digests(three)
    three.alias("x", "prod", {"v2": 5, "v1": 95})
    for belief in ("v1", "v2", None, {"v1": 94, "v2": 6}, {"v1": 95, "v3": 5}):
        with pytest.raises(Conflict) as caught:
            three.alias("x", "prod", "v2", expect=belief)
        assert caught.value.actual == {one: 0.95, two: 0.05}
    three.alias("x", "prod", "v2", expect={"v1": 950, "v2": 50})
    op = three.log("x")[-1].ops[0]
    assert isinstance(op, MoveAlias)
    assert (op.expect, format_of(op)) == ({one: 0.95, two: 0.05}, 2)
    assert three.state("x").splits == {}


def test_rollback_of_splits(three: Registry) -> None:
    for to in ({"v2": 5, "v1": 95}, {"v2": 1, "v1": 1}, "v2"):
        three.alias("x", "prod", to)
    assert three.rollback("x").number in (1, 2)
    assert sorted(three.state("x").standing("prod").values()) == [0.5, 0.5]
    assert three.rollback("x").number == 1
    assert sorted(three.state("x").standing("prod").values()) == [0.05, 0.95]
    assert three.rollback("x").number == 1
    assert three.state("x").splits == {}
    with pytest.raises(NotFound, match="no earlier version"):
        three.rollback("x")


def test_a_rollback_in_doubt_can_be_repeated(three: Registry) -> None:
    for to in ("v2", "v3"):
        three.alias("x", "prod", to)
    assert three.rollback("x", expect="v3").number == 2
    for expect in ("v3", digests(three)[2], {"v2": 1, "v3": 1}, None):
        with pytest.raises(Conflict) as caught:
            three.rollback("x", expect=expect)
        assert caught.value.actual == digests(three)[1]
    assert three.resolve("x").number == 2, "no further, however often it is repeated"
    assert three.rollback("x", expect=digests(three)[1]).number == 1


@pytest.mark.parametrize(
    ("to", "words"),
    [
        ({"v1": 0.0, "v2": 1.0}, "above 0"),
        ({"v1": float("nan"), "v2": 1.0}, "above 0"),
        ({"v1": 1.0, "prod": 1.0}, "the same version"),
        ({"v1": 1.0, "v9": 1.0}, "no version v9"),
    ],
)
def test_bad_weights(three: Registry, to: dict[str, float], words: str) -> None:
    with pytest.raises((Invalid, NotFound), match=words):
        three.alias("x", "prod", to)
    assert len(three.log("x")) == 4


def test_quarantine(three: Registry) -> None:
    three.alias("x", "prod", "v2")
    two = three.quarantine("x", "prod", "leaks names")
    for ref in ("x", "x@v2", f"x@{two.digest[:20]}"):
        with pytest.raises(Refused, match="x@v2 is quarantined: leaks names"):
            three.resolve(ref)
    assert three.resolve(f"x@{two.digest}") == two, "who names the very bytes knows what they are"
    assert three.show("x") == two
    for change in (move("canary", "v2"), move("canary", {"v2": 1, "v3": 1})):
        with pytest.raises(Refused, match="quarantined"):
            three.commit("x", change)
    assert three.rollback("x").number == 1
    three.alias("x", "prod", "v3")
    assert three.rollback("x").number == 1, "a rollback passes it over"
    assert three.commit("x", changes.quarantine("v2", reason="again")) is None
    three.quarantine("x", "v2", "", lift=True)
    assert three.resolve("x@v2") == two
    assert [event.v for event in three.log("x")][-4:] == [1, 1, 1, 2]


def test_what_is_quarantined_is_not_pulled_by_a_name(three: Registry, tmp_path: Path) -> None:
    found = three.quarantine("x", "v1", "bad")
    with pytest.raises(Refused):
        three.pull("x", tmp_path / "out")
    three.pull(f"x@{found.digest}", tmp_path / "out")


def test_publish_weights_and_retirement_are_one_event(three: Registry, tmp_path: Path) -> None:
    version = three.publish(
        "x",
        write_folder(tmp_path / "four", seed=4),
        also=lambda new: [move("prod", {new: 5, "v1": 95}, expect="v1"), retire("v2", reason="superseded")],
    )
    ops = three.log("x")[-1].ops
    assert [type(op) for op in ops] == [Publish, MoveAlias, Delete]
    assert three.state("x").standing("prod")[version.digest] == 0.05
    assert [each.number for each in three.state("x").versions] == [1, 3, 4]


def test_each_change_sees_those_before_it(three: Registry) -> None:
    three.commit("x", move("canary", "prod"), move("prod", "v3", expect="v1"), move("canary", None), retire("v1"))
    assert three.state("x").aliases == {"prod": digests(three)[-1]}
    num_events = len(three.log("x"))
    with pytest.raises(Refused, match="aliased prod"):
        three.commit("x", move("prod", "v2"), retire("v3"), retire("v2"))
    assert len(three.log("x")) == num_events, "all or nothing"
    assert three.state("x").aliases_of(digests(three)[-1]) == ["prod"]


def test_privacy_outlives_a_policy_that_does_not_name_it(three: Registry) -> None:
    """A trainer that publishes sets the policy of its spec; it must not switch redaction off by saying nothing."""
    three.set_policy("x", {"capture": True, "capture_days": 30, "redact": ["email"]})
    assert three.set_policy("x", {"capture": True, "capture_days": 30, "redact": ("email",)}) is None
    three.set_policy("x", {"capture": True, "min_examples": 8})
    policy = three.policy("x")
    assert (policy.min_examples, policy.capture_days, policy.redact) == (8, 30, ("email",))
    three.set_policy("x", {"capture": True, "capture_days": 0, "redact": "none"})
    assert (three.policy("x").capture_days, three.policy("x").redact) == (0, ())


def test_retention_outlives_a_policy_that_does_not_name_it(three: Registry, tmp_path: Path) -> None:
    three.commit("x", changes.set_retention(Retention(keep_last=2)))
    three.publish("x", write_folder(tmp_path / "four", seed=4), policy={"capture": True})
    assert three.policy("x").retention == Retention(keep_last=2)
    assert three.policy("x").capture
    assert three.set_policy("x", three.policy("x")) is None, "nothing changed, nothing is written"
    with pytest.raises(Invalid, match="retention"):
        three.set_policy("x", {"retention": {"keep_lats": 1}})


@pytest.mark.parametrize("open_again", REAL_STORES, indirect=True)
def test_a_blob_is_stored_once_in_an_adapter(store: Store, tmp_path: Path) -> None:
    registry = Registry(store)
    registry.register_base(PROFILE)
    first = registry.publish("x", write_folder(tmp_path / "one", seed=1))
    second = registry.publish("x", write_folder(tmp_path / "two", seed=1), tags={"note": "same weights"})
    assert second.digest != first.digest
    assert second.locations == first.locations
    assert len([*store.list("t/default/a/x/blobs/")]) == 2
    registry.delete("x", "v1")
    assert registry.verify("x").num_blobs == 2
    assert registry.publish("y", tmp_path / "one").locations != first.locations, "adapters share nothing"


def test_a_long_upload_is_announced_again(registry: Registry, tmp_path: Path) -> None:
    """Gateways look for a while only after a notice: one that is older than that must be renewed."""
    clock = registry.clock

    def slow(done: int, total: int) -> None:
        clock.now += 30.0  # type: ignore[attr-defined]

    registry.publish("x", write_folder(tmp_path / "one"), progress=slow)
    assert len([*registry.store.list("t/default/dirty/")]) == 2
    registry.publish("x", write_folder(tmp_path / "two", seed=2), aliases={"prod": msgspec.UNSET})
    assert len([*registry.store.list("t/default/dirty/")]) == 3
