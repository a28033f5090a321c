"""Garbage collection: what goes, what stays and why, and that no publisher loses a blob to it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from registry import changes
from registry.adapters import Registry
from registry.directory import DirectoryStore
from registry.errors import Conflict, Corrupt
from registry.gc import Report, collect
from registry.ops import Abort
from registry.pins import Pins
from registry.retention import Retention
from registry.store import Store
from tests.registry.conftest import STORES, FakeClock
from tests.registry.folders import PROFILE, write_folder
from tests.registry.people import People
from tests.registry.stores import Wrapper

DAY_S = 86_400.0
PREFIX = "t/default/a/x/"


@pytest.fixture
def three(registry: Registry, tmp_path: Path) -> Registry:
    """Adapter x with versions 1, 2, 3; prod = 3."""
    for seed in (1, 2, 3):
        registry.publish("x", write_folder(tmp_path / f"v{seed}", seed=seed))
    registry.alias("x", "prod", "v3")
    return registry


def blobs(registry: Registry) -> set[str]:
    return {key.removeprefix(PREFIX + "blobs/") for key in registry.store.list(PREFIX + "blobs/")}


def collect_x(registry: Registry, grace_s: float = DAY_S, *, dry_run: bool = False) -> Report:
    (report,) = collect(registry, ["x"], grace_s=grace_s, dry_run=dry_run)
    return report


class Crash(Exception):
    """The process dies here."""


class Dying(Wrapper):
    """Dies at the first call of `method` on a key that contains `part`; before or after it was carried out."""

    def __init__(self, inner: Store, method: str, part: str, *, after: bool = False) -> None:
        super().__init__(inner)
        self._method, self._part, self._after = method, part, after

    def __getattr__(self, name: str) -> Any:
        call = getattr(self.inner, name)
        if name != self._method:
            return call

        def die(key: str, *arguments: Any, **more: Any) -> Any:
            if self._part not in key:
                return call(key, *arguments, **more)
            if self._after:
                call(key, *arguments, **more)
            raise Crash(key)

        return die


@pytest.mark.parametrize("open_again", STORES, indirect=True)
def test_deleted_bytes_go_and_live_ones_stay(store: Store, tmp_path: Path) -> None:
    registry = Registry(store)
    registry.register_base(PROFILE)
    for seed in (1, 2):
        registry.publish("x", write_folder(tmp_path / str(seed), seed=seed))
    registry.delete("x", "v1", reason="old")
    before = blobs(registry)
    report = collect_x(registry, grace_s=0.0)
    (finding,) = report.blobs
    assert (finding.goes, "x@v1 was deleted" in finding.why, "(old)" in finding.why) == (True, True, True)
    assert before - blobs(registry) == {finding.name}, "the shared config stays"
    assert registry.verify("x").num_versions == 1
    assert isinstance(registry.log("x")[-1].ops[0], Abort)
    assert collect_x(registry, grace_s=0.0).blobs == ()
    assert registry.publish("x", tmp_path / "1").number == 3
    assert registry.verify("x").num_versions == 2


def test_a_grace_and_a_dry_run_say_why(three: Registry, clock: FakeClock) -> None:
    three.delete("x", "v1")
    clock.now += DAY_S / 2
    (young,) = collect_x(three).blobs
    assert (young.goes, young.why) == (False, "x@v1 was deleted 12 h ago; kept for 1 d")
    clock.now += DAY_S
    before, num_events = blobs(three), len(three.log("x"))
    (old,) = collect_x(three, dry_run=True).blobs
    assert (old.goes, old.why) == (True, "x@v1 was deleted 1.5 d ago")
    assert old.size is not None
    assert (blobs(three), len(three.log("x"))) == (before, num_events), "a dry run changes nothing"
    assert collect_x(three).blobs == (old,)
    assert before - blobs(three) == {old.name}
    assert three.state("x").deleted == ()


def test_an_upload_that_never_ended(three: Registry, clock: FakeClock, tmp_path: Path) -> None:
    dying = Registry(Dying(three.store, "create", "/log/"), clock=clock)
    with pytest.raises(Crash):
        dying.publish("x", write_folder(tmp_path / "four", seed=4))
    clock.now += 60
    (young,) = collect_x(three).blobs
    assert (young.goes, young.why, young.size) == (False, "an upload that began 1 min ago; given 1 d", None)
    clock.now += DAY_S
    (old,) = collect_x(three).blobs
    assert (old.goes, old.why) == (True, "an upload that began 1 d ago and never ended")
    assert old.name not in blobs(three)


def test_an_upload_to_an_adapter_that_never_was(registry: Registry, clock: FakeClock, tmp_path: Path) -> None:
    dying = Registry(Dying(registry.store, "create", "/log/"), clock=clock)
    with pytest.raises(Crash):
        dying.publish("x", write_folder(tmp_path / "one"))
    clock.now += 2 * DAY_S
    (report,) = collect(registry)
    assert len(report.blobs) == 2
    assert blobs(registry) == set()
    assert [*registry.list()] == []
    assert registry.publish("x", tmp_path / "one").number == 1


def test_a_stalled_publisher_is_fenced_and_uploads_again(three: Registry, clock: FakeClock, tmp_path: Path) -> None:
    collected = []

    def stall(done: int, total: int) -> None:
        if done == total and not collected:
            clock.now += 2 * DAY_S
            collected.append(collect_x(three))

    slow = Registry(DirectoryStore(Path(three.store.url.removeprefix("file://"))), clock=clock)
    version = slow.publish("x", write_folder(tmp_path / "four", seed=4), progress=stall)
    assert len(collected[0].blobs) == 1
    assert version.number == 4
    assert three.verify("x").num_versions == 4
    assert collected[0].blobs[0].name.partition(".")[2] not in version.locations.values()


def test_a_blob_that_was_to_be_shared_goes_before_the_commit(three: Registry, clock: FakeClock, tmp_path: Path) -> None:
    """The publisher counts on v1's weights; they are deleted and collected while it uploads the rest."""
    folder, weights = write_folder(tmp_path / "again", seed=1, lora_dropout=0.5), three.resolve("x@v1").locations
    collected = []

    def sweep(done: int, total: int) -> None:
        if not collected:
            three.delete("x", "v1")
            collected.append(collect_x(three, grace_s=0.0))

    other = Registry(DirectoryStore(Path(three.store.url.removeprefix("file://"))), clock=clock)
    version = other.publish("x", folder, progress=sweep)
    gone = {finding.name for finding in collected[0].blobs if finding.goes}
    assert gone & {f"{sha256}.{tx}" for sha256, tx in weights.items()}
    assert gone.isdisjoint(f"{sha256}.{tx}" for sha256, tx in version.locations.items())
    assert three.verify("x").num_versions == 3


@pytest.mark.parametrize(
    "moment", [("create", "/log/", False), ("create", "/log/", True), ("delete", "/blobs/", False)]
)
def test_a_collector_may_die_anywhere(three: Registry, clock: FakeClock, moment: tuple[str, str, bool]) -> None:
    three.delete("x", "v1")
    method, part, after = moment
    with pytest.raises(Crash):
        collect_x(Registry(Dying(three.store, method, part, after=after), clock=clock), grace_s=0.0)
    assert three.verify("x").num_versions == 2
    num_blobs = len(blobs(three))
    report = collect_x(three, grace_s=0.0)
    assert [finding.goes for finding in report.blobs] == [True]
    assert len(blobs(three)) == num_blobs - 1
    assert sum(isinstance(op, Abort) for event in three.log("x") for op in event.ops) == 1


def test_an_aborted_transaction_commits_nothing(three: Registry) -> None:
    tx = three.adapter_log("x").new_tx()
    assert three.abort("x", tx, reason="late") is not None
    assert three.abort("x", tx) is None
    with pytest.raises(Conflict, match="given up"):
        three.commit("x", changes.move("prod", "v1"), tx=tx)
    assert three.resolve("x").number == 3


def test_sweeping_waits_for_pins(three: Registry, clock: FakeClock) -> None:
    version = three.resolve("x@v1")
    pins = Pins(three.store, "default", clock)
    pins.hold("gateway-1", {"x": [version.digest]}, lease_s=300.0)
    three.delete("x", "v1")
    clock.now += 200
    (held,) = collect_x(three, grace_s=0.0).blobs
    assert (held.goes, "gateway-1 may still read it" in held.why) == (False, True)
    clock.now += 200
    (free,) = collect_x(three, grace_s=0.0).blobs
    assert free.goes
    assert [pin.gateway for pin in pins.standing()] == []
    clock.now += 2 * DAY_S
    collect_x(three)
    assert [*three.store.list("t/default/pins/")] == []


def test_a_pin_nobody_can_read_stops_the_collector(three: Registry) -> None:
    three.store.put("t/default/pins/gateway-1.json", b"{")
    with pytest.raises(Corrupt, match="gateway-1"):
        collect_x(three)


def test_retention_lets_versions_go_then_their_bytes(three: Registry, clock: FakeClock) -> None:
    three.commit("x", changes.set_retention(Retention(keep_last=1)))
    before = blobs(three)
    dry = collect_x(three, dry_run=True)
    assert [(each.name, each.goes) for each in dry.versions] == [("x@v1", True), ("x@v2", True), ("x@v3", False)]
    assert dry.versions[2].why == "it is prod"
    first = collect_x(three)
    assert first.versions == dry.versions
    assert [finding.goes for finding in first.blobs] == [False, False]
    assert len(three.state("x").versions) == 1
    clock.now += 2 * DAY_S
    assert [finding.goes for finding in collect_x(three).blobs] == [True, True]
    assert len(before) - len(blobs(three)) == 2
    assert three.verify("x").num_versions == 1


def test_what_is_no_blob_is_left_alone(three: Registry) -> None:
    three.store.put(PREFIX + "blobs/README", b"who put this here?")
    assert collect_x(three, grace_s=0.0).blobs == ()
    assert "README" in blobs(three)


def test_rules_that_forbid_it_are_reported_and_stop_nobody_else(tmp_path: Path) -> None:
    people = People(DirectoryStore(tmp_path / "store"), tmp_path)
    for name in ("other", "support"):
        people.govern(name)
        people.as_("worker").publish(name, people.folder())
        people.as_("ada").delete(name, "v1")
    reports = collect(people.as_(), grace_s=0.0)
    assert ["abort is for" in report.refused for report in reports] == [True, True]
    assert len([*people.store.list("t/default/a/support/blobs/")]) == 2
    assert [len(report.blobs) for report in collect(people.as_("worker"), grace_s=0.0)] == [2, 2]
    assert [*people.store.list("t/default/a/support/blobs/")] == []


def test_publishers_and_zero_grace_collectors_race(three: Registry, tmp_path: Path) -> None:
    """Publishers come and go, all share one config file; whatever collectors do, a publish that returned is whole."""
    root = Path(three.store.url.removeprefix("file://"))
    folders = [write_folder(tmp_path / f"race{seed}", seed=10 + seed) for seed in range(5)]
    over = Event()

    def publish(folder: Path) -> str:
        mine = Registry(DirectoryStore(root), actor=folder.name)
        for round_ in range(8):
            version = None
            while version is None:
                with suppress(Conflict):  # so many uploads in a row were collected
                    version = mine.publish("x", folder)
            mine.pull(f"x@{version.digest}", tmp_path / f"{folder.name}-{round_}")
            if round_ < 7:
                mine.delete("x", version.digest)
        return version.digest

    def sweep(_: int) -> int:
        mine, swept = Registry(DirectoryStore(root), actor="collector"), 0
        while not over.is_set():
            swept += sum(finding.goes for finding in collect_x(mine, grace_s=0.0).blobs)
        return swept

    with ThreadPoolExecutor(7) as pool:
        sweeps = [pool.submit(sweep, number) for number in range(2)]
        try:
            ended = [each.result() for each in [pool.submit(publish, folder) for folder in folders]]
        finally:
            over.set()
        assert sum(each.result() for each in sweeps) > 0
    assert {*ended} <= {version.digest for version in three.state("x").versions}
    assert three.verify("x").num_versions == 8
