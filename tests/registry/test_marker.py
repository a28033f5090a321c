"""registry.json: created once, formats respected, a store used as it deserves."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from registry.access import admitted
from registry.adapters import Registry, open_registry
from registry.captures import CaptureRecord, CaptureWriter
from registry.directory import DirectoryStore
from registry.errors import Corrupt, Invalid, NotFound, Refused
from registry.marker import FORMAT, MARKER, Marker, initialise, read_marker, upgrade
from registry.settings import Settings
from registry.store import Store
from tests.registry.folders import PROFILE, write_folder
from tests.registry.stores import Forgetful, Racy, Unconditional, Wrapper


def test_it_is_created_once(directory_store: DirectoryStore) -> None:
    with pytest.raises(NotFound, match="registry init"):
        read_marker(directory_store)
    marker = initialise(directory_store, clock=lambda: 5.0)
    assert read_marker(directory_store) == marker == initialise(directory_store)
    assert (marker.format, marker.created_at, marker.mode, marker.verdict.passed) == (FORMAT, 5.0, "writable", True)


def test_what_is_newer_or_damaged_is_refused(directory_store: DirectoryStore) -> None:
    initialise(directory_store)
    directory_store.put(MARKER, directory_store.get(MARKER).replace(b'"format":2', b'"format":9'))
    with pytest.raises(Refused, match="format 9; this program reads up to 2") as caught:
        read_marker(directory_store)
    assert caught.value.hint == "update lorimer"
    directory_store.put(MARKER, b"?")
    with pytest.raises(Corrupt, match=MARKER):
        read_marker(directory_store)


def test_a_full_or_unreachable_disk_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Exception, match="is not a directory"):
        initialise(DirectoryStore(tmp_path / "file"))


@pytest.mark.parametrize("broken", [Racy, Unconditional, Forgetful])
def test_an_unsound_store_is_never_written_to(directory_store: DirectoryStore, broken: type[Wrapper]) -> None:
    with pytest.raises(Refused, match="cannot hold a writable registry") as caught:
        initialise(broken(directory_store))
    assert ("--single-writer" in caught.value.hint) == (broken is Racy)
    assert not directory_store.exists(MARKER)
    marker = initialise(broken(directory_store), read_only=True)
    assert (marker.mode, marker.verdict.passed) == ("read-only", False)
    with pytest.raises(Refused, match="was initialised read-only"):
        admitted(directory_store, marker, None).create("x", b"")


@pytest.mark.parametrize("broken", [Unconditional, Forgetful])
def test_a_single_writer_needs_all_but_the_races(directory_store: DirectoryStore, broken: type[Wrapper]) -> None:
    with pytest.raises(Refused, match="cannot hold a writable registry"):
        initialise(broken(directory_store), writer="loader")


def test_a_single_writer_and_nobody_else(directory_store: DirectoryStore) -> None:
    store = Racy(directory_store)
    marker = initialise(store, writer="loader")
    assert (marker.mode, marker.verdict.passed) == ("single-writer (loader)", False)
    assert initialise(store) == initialise(store, writer="loader") == marker
    assert admitted(store, marker, "loader").create("a", b"1")
    for name, problem in (("other", "this process is 'other'"), (None, "this process has no name")):
        reading = admitted(store, marker, name)
        assert reading.get("a") == b"1"
        with pytest.raises(Refused, match=problem) as caught:
            reading.create("b", b"")
        assert "LORIMER_WRITER" in caught.value.hint
    handed_over = initialise(store, writer="other")
    assert handed_over.writer == read_marker(store).writer == "other"
    with pytest.raises(Invalid, match="not a valid writer name"):
        initialise(store, writer="Not A Name")


def test_threads_of_the_single_writer_lose_nothing(directory_store: DirectoryStore) -> None:
    """The store checks and then writes: without turns, two threads would both win a slot."""
    marker = initialise(Racy(directory_store), writer="loader")
    store = admitted(Racy(directory_store), marker, "loader")
    registries = [Registry(store, actor=str(number)) for number in range(4)]

    def write(number: int) -> None:
        for turn in range(6):
            registries[number].set_policy("x", {"min_examples": 1 + number * 100 + turn})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert len(Registry(store).log("x")) == 24


def test_a_writable_store_may_be_declared_single_writer(directory_store: DirectoryStore) -> None:
    assert initialise(directory_store, writer="loader").writer == "loader"


@pytest.mark.parametrize(("declared", "writer", "may"), [(None, None, True), ("me", "me", True), ("me", None, False)])
def test_opened_as_declared(tmp_path: Path, declared: str | None, writer: str | None, may: bool) -> None:
    initialise(DirectoryStore(tmp_path), writer=declared)
    registry = open_registry(Settings(store=f"file://{tmp_path}", writer=writer))
    if may:
        registry.set_policy("x", {})
    else:
        with pytest.raises(Refused, match="has 'me' as its single writer"):
            registry.set_policy("x", {})


def test_who_only_reads_can_serve(tmp_path: Path) -> None:
    """A gateway registers its base, which is there, and writes captures, which it cannot."""
    initialise(DirectoryStore(tmp_path), writer="loader")
    open_registry(Settings(store=f"file://{tmp_path}", writer="loader")).register_base(PROFILE)
    reading = open_registry(Settings(store=f"file://{tmp_path}"))
    assert reading.register_base(PROFILE) == PROFILE
    captures = CaptureWriter(reading.store, "default", "gateway")
    for number in range(200):
        captures.request(
            CaptureRecord(
                request_id=f"{number}", time=0.0, session="s", adapter="x", digest="d", messages=[], response=""
            )
        )
    with pytest.raises(Refused, match="single writer"):
        captures.flush()


def test_an_older_format_takes_what_it_can_express(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    older(store)
    settings = Settings(store=f"file://{tmp_path}/store")
    registry = open_registry(settings)
    registry.register_base(PROFILE)
    for seed in (1, 2):
        registry.publish("x", write_folder(tmp_path / str(seed), seed=seed), aliases={"prod": msgspec.UNSET})
    registry.rollback("x")
    with pytest.raises(Refused, match="needs registry format 2; the registry has format 1") as caught:
        registry.alias("x", "prod", {"v1": 0.5, "v2": 0.5})
    assert "lorimer registry upgrade" in caught.value.hint
    assert upgrade(store).format == upgrade(store).format == FORMAT
    open_registry(settings).alias("x", "prod", {"v1": 0.5, "v2": 0.5})
    assert [event.v for event in registry.log("x")] == [1, 1, 1, 2]


def older(store: Store) -> Marker:
    marker = msgspec.structs.replace(initialise(store), format=1)
    store.put(MARKER, msgspec.json.encode(marker))
    return marker
