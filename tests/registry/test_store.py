"""One suite for every store, and what opening one refuses."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from registry.access import ReadOnly
from registry.errors import Invalid, NotFound, Refused, Unavailable
from registry.s3 import S3Store
from registry.store import Store, Uncertain, create_surely, open_store
from tests.registry.conftest import REAL_STORES, STORES, OpenAgain
from tests.registry.stores import Down, Flaky, MemoryStore

every_store = pytest.mark.parametrize("open_again", STORES, indirect=True)
real_stores = pytest.mark.parametrize("open_again", REAL_STORES, indirect=True)


@every_store
def test_create_is_create_if_absent(store: Store) -> None:
    assert store.create("a/b.json", b"first")
    assert not store.create("a/b.json", b"second")
    assert store.get("a/b.json") == b"first"
    assert store.create("a/empty", b"")
    assert store.get("a/empty") == b""


@every_store
def test_absent_keys(store: Store, tmp_path: Path) -> None:
    assert not store.exists("a/b")
    for read in (
        lambda: store.get("a/b"),
        lambda: list(store.chunks("a/b")),
        lambda: store.fetch("a/b", tmp_path / "x"),
    ):
        with pytest.raises(NotFound):
            read()
    assert not (tmp_path / "x").exists()
    store.delete("a/b")


@every_store
def test_files_are_streamed_whole(store: Store, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(bytes(range(256)) * 12_345)
    assert store.create_file("f/blob", source)
    assert not store.create_file("f/blob", source)
    store.fetch("f/blob", target)
    assert target.read_bytes() == source.read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".target")] == []


@every_store
def test_large_files_go_in_parts(open_again: OpenAgain, tmp_path: Path) -> None:
    store = open_again()
    if isinstance(store, S3Store):
        store = S3Store(store._bucket, large_bytes=5 << 20, part_bytes=5 << 20)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"0123456789abcdef" * (7 << 16))
    assert store.create_file("f/large", source)
    assert not store.create_file("f/large", source)
    store.fetch("f/large", target)
    assert target.read_bytes() == source.read_bytes()


@every_store
def test_ranges(store: Store) -> None:
    data = bytes(range(256)) * 20
    store.create("r/x", data)
    for begin, end in ((0, None), (0, 7), (7, 9), (9, 9), (5119, None), (5000, 9999), (5120, None), (9999, None)):
        assert b"".join(store.chunks("r/x", begin, end)) == data[begin:end]


@every_store
def test_put_overwrites_and_delete_is_idempotent(store: Store) -> None:
    store.put("h/HEAD", b"1")
    store.put("h/HEAD", b"2")
    assert store.get("h/HEAD") == b"2"
    store.delete("h/HEAD")
    store.delete("h/HEAD")
    assert not store.exists("h/HEAD")
    assert store.create("h/HEAD", b"3")


@every_store
def test_lists_are_lexicographic_over_whole_keys(store: Store) -> None:
    keys = ["l/a-b", "l/a.b", "l/a/b", "l/a/c/d", "l/a0", "l/b", "m/a"]
    for key in reversed(keys):
        store.create(key, b"")
    assert list(store.list("l/")) == keys[:6]
    assert list(store.list("")) == keys
    assert list(store.list("l/a")) == keys[:5]
    assert list(store.list("l/", start_after="l/a.b")) == keys[2:6]
    assert list(store.list("l/", start_after="l/a/b")) == keys[3:6]
    assert list(store.list("l/", start_after="l/a/zzz")) == keys[4:6]
    assert list(store.list("l/", start_after="l/a/")) == keys[2:6]
    assert list(store.list("absent/")) == []
    assert list(store.folders("l/")) == ["a"]
    assert list(store.folders("")) == ["l", "m"]


@every_store
def test_lists_longer_than_a_page(store: Store) -> None:
    if isinstance(store, S3Store):
        store = S3Store(store._bucket, page_keys=3)
    keys = [f"p/{number:05d}/x" for number in range(8)]
    assert all(store.create(key, b"") for key in keys)
    assert list(store.list("p/")) == keys
    assert list(store.list("p/", start_after=keys[1])) == keys[2:]
    assert list(store.folders("p/")) == [f"{number:05d}" for number in range(8)]


@every_store
@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", ".tmp/x", "a/.b", "a b", "ä", "a\x00", "a\\b", "x" * 901]
)
def test_unsafe_keys_are_refused(store: Store, key: str) -> None:
    for call in (lambda: store.create(key, b""), lambda: store.get(key), lambda: store.put(key, b"")):
        with pytest.raises(Invalid):
            call()


@real_stores
def test_races_have_one_winner(open_again: OpenAgain) -> None:
    racers = 8
    stores = [open_again() for _ in range(racers)]
    barrier = Barrier(racers)

    def race(number: int, key: str) -> bool:
        barrier.wait(30)
        return create_surely(stores[number], key, b"%d" % number)

    with ThreadPoolExecutor(racers) as pool:
        for round_ in range(10):
            key = f"race/{round_}"
            won = list(pool.map(race, range(racers), [key] * racers))
            assert won.count(True) == 1
            assert stores[0].get(key) == b"%d" % won.index(True)


@pytest.mark.parametrize("fates", [["unheard"], ["lost"], ["lost", "unheard", "lost"], ["late", "late"]])
def test_lost_replies_are_settled(fates: list[str]) -> None:
    store = Flaky(MemoryStore(), fates)
    assert create_surely(store, "k", b"mine", sleep=lambda _: None)
    assert store.get("k") == b"mine"


def test_lost_reply_of_a_lost_race() -> None:
    store = Flaky(MemoryStore(), ["unheard", "lost"])
    store.put("k", b"theirs")
    assert not create_surely(store, "k", b"mine", sleep=lambda _: None)


def test_silence_is_uncertain_and_refusal_is_not() -> None:
    naps: list[float] = []
    with pytest.raises(Uncertain, match="unknown"):
        create_surely(Flaky(MemoryStore(), ["lost"] * 99), "k", b"", sleep=naps.append)
    assert sum(naps) < 5
    with pytest.raises(Unavailable) as caught:
        create_surely(Down(MemoryStore()), "k", b"", sleep=naps.append)
    assert not isinstance(caught.value, Uncertain)


def test_read_only() -> None:
    inner = MemoryStore()
    inner.put("k", b"v")
    store = ReadOnly(inner, "was initialised read-only", "ask whoever did")
    assert store.get("k") == b"v"
    for write in (lambda: store.create("x", b""), lambda: store.put("x", b""), lambda: store.delete("k")):
        with pytest.raises(Refused, match="read-only"):
            write()


@pytest.mark.parametrize("url", ["", "relative", "http://x", "s3://", "file://", "S4://bucket"])
def test_bad_urls(url: str) -> None:
    with pytest.raises(Invalid):
        open_store(url)


def test_file_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_store("file://.lorimer").url == f"file://{tmp_path}/.lorimer"
    assert open_store(f"file://{tmp_path}/a%20b").url == f"file://{tmp_path}/a b"
