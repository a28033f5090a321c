"""The list of all adapters: complete and fresh whatever state its index is in; tidied by anybody, rebuilt at will."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from registry.access import ReadOnly
from registry.adapters import Registry
from registry.catalog_compaction import LINGER_S, OVERDUE_S, OVERLAY, STANDING
from registry.directory import DirectoryStore
from registry.errors import Conflict, Corrupt, Refused, Unavailable
from registry.notices import announce, standing
from registry.store import Store
from registry.summary import AdapterSummary, Filter, summarise
from tests.registry.conftest import STORES, FakeClock, OpenAgain
from tests.registry.folders import PROFILE, write_folder
from tests.registry.stores import MemoryStore, Wrapper

MANY = OVERLAY + 4


class Counting(Wrapper):
    """Counts requests, a listing once for each thousand keys; writing can be forbidden."""

    def __init__(self, inner: Store, *, writable: bool = True) -> None:
        super().__init__(inner)
        self.asked: list[str] = []
        self._writable = writable

    def __getattribute__(self, name: str):  # type: ignore[no-untyped-def]
        if name in ("create", "put", "get", "exists", "list", "folders", "delete"):
            self.asked.append(name)
            if name in ("create", "put", "delete") and not self._writable:
                raise Unavailable("this role may not write")
        return super().__getattribute__(name)


def registry_of(store: Store, clock: FakeClock, **options: object) -> Registry:
    return Registry(store, clock=clock, actor="test", **options)  # type: ignore[arg-type]


def write(registry: Registry, name: str, min_examples: int = 1) -> None:
    registry.set_policy(name, {"min_examples": min_examples})


def write_many(registry: Registry, count: int = MANY) -> list[str]:
    names = [f"adapter-{number:03d}" for number in range(count)]
    for name in names:
        write(registry, name)
    return names


def keys(store: Store, folder: str) -> list[str]:
    return list(store.list(f"t/default/{folder}/"))


def truth(registry: Registry) -> list[AdapterSummary]:
    """What the logs say, one after the other."""
    names = registry.store.folders("t/default/a/")
    positions = [registry.adapter_log(name).position() for name in names]
    return [row for each in positions if (row := summarise(each.state, each.n)) is not None]


@pytest.mark.parametrize("open_again", STORES, indirect=True)
def test_the_index_is_made_kept_up_and_swept(open_again: OpenAgain, clock: FakeClock) -> None:
    writer, reader = (registry_of(open_again(), clock) for _ in range(2))
    names = write_many(writer)
    assert [row.adapter for row in reader.list()] == names, "with no index yet"
    assert len(keys(reader.store, "catalog/log")) == 1, "which that list has made"
    assert len(keys(reader.store, "dirty")) == MANY, "gateways may not have seen them yet"
    write(writer, names[3], 7)
    write(writer, "zebra")
    assert list(reader.list()) == truth(writer)
    assert list(registry_of(open_again(), clock).list()) == truth(writer)
    assert len(keys(reader.store, "catalog/log")) == 1, "two changes are no reason"
    clock.now += 2 * LINGER_S
    for name in names[:STANDING]:
        write(writer, name, 9)
    reader.list()
    assert len(keys(reader.store, "catalog/log")) == 2
    assert {notice.time for notice in standing(reader.store, "default")} == {clock.now}
    assert list(reader.list()) == truth(writer)
    assert list(registry_of(open_again(), clock).list()) == truth(writer)


def test_a_small_registry_has_no_index(registry: Registry) -> None:
    write_many(registry, OVERLAY)
    assert len(registry.list()) == OVERLAY
    assert keys(registry.store, "catalog") == []


def test_rows_tell_of_the_newest_version(registry: Registry, tmp_path: Path) -> None:
    registry.publish("x", write_folder(tmp_path / "1"), aliases={"prod": None}, metrics={"accuracy": 0.5})
    registry.publish("x", write_folder(tmp_path / "2", seed=2), tags={"team": "search"}, metrics={"accuracy": 0.75})
    (row,) = registry.list()
    assert (row.adapter, row.events, row.num_versions, row.latest, row.aliases) == ("x", 2, 2, 2, {"prod": 1})
    assert (row.base, row.method, row.tags, row.metrics) == (
        PROFILE.identity.id, "lora", {"team": "search"}, {"accuracy": 0.75},
    )  # fmt: skip
    assert list(registry.list(Filter(tags={"team": "search"}, alias="prod"))) == [row]
    assert list(registry.list(Filter(name="y*"))) == []


def test_deleted_versions_leave_the_index(registry: Registry, tmp_path: Path) -> None:
    registry.publish("x", write_folder(tmp_path / "1"))
    registry.catalog.compact()
    registry.delete("x", "v1")
    assert registry.list()[0].latest == 0
    registry.catalog.compact()
    (row,) = registry.list()
    assert (row.latest, row.num_versions, row.base) == (0, 0, "")


def test_warm_and_cold_lists_ask_little(clock: FakeClock) -> None:
    memory = MemoryStore()
    writer = registry_of(memory, clock)
    names = write_many(writer, 500)
    writer.catalog.compact()
    for name in names[:5]:
        write(writer, name, 2)
    counting = Counting(memory)
    reader = registry_of(counting, clock)
    assert list(reader.list()) == truth(writer)
    assert len(counting.asked) <= 40, "five changed adapters, cold"
    counting.asked.clear()
    assert len(reader.list()) == 500
    assert len(counting.asked) <= 2 + 2 * 5
    writer.catalog.compact()
    reader.list()
    counting.asked.clear()
    assert len(reader.list()) == 500
    assert counting.asked == ["list", "get"]


def test_an_open_transaction_costs_one_request_until_it_is_overdue(clock: FakeClock) -> None:
    memory = MemoryStore()
    registry = registry_of(memory, clock)
    names = write_many(registry)
    registry.list()
    log = registry.adapter_log(names[0])
    tx = log.new_tx()
    announce(memory, "default", names[0], tx, clock())
    clock.now += OVERDUE_S / 2
    registry.catalog.compact()
    assert [notice.tx for notice in standing(memory, "default")] == [tx]
    assert log.fold().aborted == ()
    clock.now += OVERDUE_S
    registry.list()
    assert log.fold().aborted == (tx,)
    with pytest.raises(Conflict):
        registry.commit(names[0], lambda _: [], tx=tx)
    clock.now += 2 * LINGER_S
    registry.catalog.compact()
    assert standing(memory, "default") == set()
    assert list(registry.list()) == truth(registry)


def test_an_announcement_of_nothing_makes_no_adapter(clock: FakeClock) -> None:
    memory = MemoryStore()
    registry = registry_of(memory, clock)
    write_many(registry)
    announce(memory, "default", "ghost", "0" * 16, clock())
    assert "ghost" not in {row.adapter for row in registry.list()}
    clock.now += 2 * OVERDUE_S
    registry.catalog.compact()
    clock.now += 2 * LINGER_S
    registry.catalog.compact()
    assert standing(memory, "default") == set()
    assert "ghost" not in {row.adapter for row in registry.list()}
    registry.catalog.rebuild()
    assert "ghost" not in {row.adapter for row in registry.list()}


def test_what_is_decided_against_leaves_no_notice(registry: Registry, tmp_path: Path) -> None:
    registry.publish("x", write_folder(tmp_path / "1"), aliases={"prod": None})
    before = standing(registry.store, "default")

    def change_mind(state: object, seen: list[object] = []) -> list[object]:  # noqa: B006 remembers being asked
        seen.append(state)
        if len(seen) > 1:
            raise Conflict("not any more")
        return registry.log("x")[0].ops[-1:]  # type: ignore[return-value]

    with pytest.raises(Conflict, match="not any more"):
        registry.commit("x", change_mind)  # type: ignore[arg-type]
    assert standing(registry.store, "default") == before


@pytest.mark.parametrize("open_again", ["directory", pytest.param("rgw", marks=pytest.mark.s3)], indirect=True)
def test_ten_compactors_at_once_are_harmless(open_again: OpenAgain, clock: FakeClock) -> None:
    write_many(registry_of(open_again(), clock))
    clock.now += 2 * LINGER_S
    stop = threading.Event()

    def compact(_: int) -> int:
        own = registry_of(open_again(), clock)
        return sum(own.catalog.compact() for _ in range(2))

    def keep_writing() -> int:
        own, rounds = registry_of(open_again(), clock), 1
        while not stop.is_set():
            rounds += 1
            for number in range(3):
                write(own, f"adapter-{number:03d}", rounds)
                found = {row.adapter: row.events for row in own.list(Filter(name="adapter-*"))}
                assert found[f"adapter-{number:03d}"] == rounds
        return rounds

    with ThreadPoolExecutor(11) as pool:
        writing = pool.submit(keep_writing)
        list(pool.map(compact, range(10)))
        stop.set()
        assert writing.result() > 1
    reader = registry_of(open_again(), clock)
    assert list(reader.list()) == truth(reader)
    clock.now += 2 * LINGER_S
    reader.catalog.compact()
    reader.catalog.compact()
    assert keys(reader.store, "dirty") == []
    assert list(registry_of(open_again(), clock).list()) == truth(reader)
    named = {segment.key for segment in reader.catalog._reader.log.fold().segments}
    assert set(keys(reader.store, "catalog/seg")) == named, "losers leave nothing behind"


def test_a_damaged_segment_is_named_and_rebuilding_mends_it(registry: Registry) -> None:
    write_many(registry)
    registry.list()
    (key,) = keys(registry.store, "catalog/seg")
    damaged = bytearray(registry.store.get(key))
    damaged[len(damaged) // 2] ^= 1
    registry.store.put(key, bytes(damaged))
    reader = Registry(registry.store, clock=registry.clock)
    with pytest.raises(Corrupt, match=key):
        reader.list()
    registry.store.delete(key)
    with pytest.raises(Corrupt, match="index --rebuild"):
        reader.list()
    assert reader.catalog.rebuild() == MANY
    assert list(reader.list()) == truth(registry)


def test_a_rebuild_believes_no_row(registry: Registry, directory_store: DirectoryStore) -> None:
    names = write_many(registry)
    registry.list()
    for key in keys(directory_store, f"a/{names[0]}/log"):
        directory_store.delete(key)
    for key in keys(directory_store, "dirty"):
        directory_store.delete(key)
    reader = Registry(directory_store, clock=registry.clock)
    assert len(reader.list()) == MANY, "somebody deleted a log behind everybody's back"
    assert reader.catalog.rebuild() == MANY - 1
    assert [row.adapter for row in reader.list()] == names[1:]


def test_readers_without_the_right_to_write_list_all_the_same(clock: FakeClock) -> None:
    memory = MemoryStore()
    write_many(registry_of(memory, clock))
    for store in (ReadOnly(memory, "is read-only", "ask"), Counting(memory, writable=False)):
        reader = registry_of(store, clock)
        assert len(reader.list()) == len(reader.list()) == MANY
        assert keys(memory, "catalog") == []


def test_an_older_registry_is_listed_from_its_logs(clock: FakeClock) -> None:
    """Programs that know only format 1 write without a notice."""
    memory = MemoryStore()
    registry = registry_of(memory, clock, format=1)
    names = write_many(registry)
    for key in keys(memory, "dirty"):
        memory.delete(key)
    assert [row.adapter for row in registry.list()] == names
    registry.catalog.tidy()
    assert keys(memory, "catalog") == []
    with pytest.raises(Refused, match="upgrade"):
        registry.catalog.rebuild()


def test_foreign_objects_among_the_notices_are_passed_over(registry: Registry) -> None:
    names = write_many(registry)
    registry.store.put("t/default/dirty/README", b"?")
    registry.store.put("t/default/dirty/01ARZ3NDEKTSV4RRFFQ69G5FAV-x-nothex", b"?")
    registry.catalog.compact()
    assert [row.adapter for row in registry.list()] == names
