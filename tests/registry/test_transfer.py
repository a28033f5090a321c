"""Large files on their way: what breaks goes on where it broke, what is damaged is refused, every byte is counted."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from benchmarks.registry.large import BAR_BYTES, measure
from registry import transfer
from registry.adapters import Registry
from registry.bucket import Bucket
from registry.canonical import sha256_file, sha256_of
from registry.errors import Corrupt, Unavailable
from registry.gc import collect
from registry.manifest import FileEntry
from registry.s3 import S3Store
from registry.settings import load_settings
from registry.store import Store, Uncertain, open_store, store_of
from registry.transfer import Meter, download, upload
from tests.registry.conftest import STORES
from tests.registry.folders import PROFILE, write_folder
from tests.registry.proxy import Proxy, proxy_to
from tests.registry.stores import MemoryStore

PART = 5 << 20
SERVERS = ["moto", pytest.param("rgw", marks=pytest.mark.s3)]
every_server = pytest.mark.parametrize("endpoint", SERVERS, indirect=True)
every_store = pytest.mark.parametrize("open_again", STORES, indirect=True)


@pytest.fixture
def endpoint(request: pytest.FixtureRequest) -> str:
    fixture = request.getfixturevalue("moto_endpoint" if request.param == "moto" else "rgw")
    return fixture if isinstance(fixture, str) else fixture.endpoint


@pytest.fixture
def proxy(endpoint: str) -> Iterator[Proxy]:
    with proxy_to(endpoint) as proxy:
        yield proxy


@pytest.fixture
def store(proxy: Proxy, tmp_path: Path) -> Iterator[S3Store]:
    """A bucket behind a line that can be cut; files of more than one part are large."""
    bucket = Bucket("lorimer", f"transfer-{tmp_path.name}", endpoint=proxy.url, read_timeout_s=5)
    store = S3Store(bucket, large_bytes=PART, part_bytes=PART, sleep=lambda _: None)
    yield store
    clear(store)


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Path]:
    """Seven parts, the last one short."""
    path = tmp_path / "source"
    path.write_bytes(os.urandom(6 * PART + 12_345))
    yield path
    for large in tmp_path.iterdir():
        large.unlink()


def clear(store: Store) -> None:
    """The servers hold everything in memory."""
    for key in list(store.list("")):
        store.delete(key)


def entry_of(path: Path) -> FileEntry:
    return FileEntry(path=path.name, sha256=sha256_file(path), size=path.stat().st_size)


class Watch:
    """What a progress bar was told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []

    def __call__(self, done: int, total: int) -> None:
        self.told.append((done, total))

    def check(self, total: int, *, steady: bool = True) -> None:
        assert {told for _, told in self.told} == {total}
        done = [done for done, _ in self.told]
        assert done[-1] == total
        assert done.count(total) == 1
        assert 0 <= min(done) <= max(done) == total
        if steady:
            assert done == sorted(done)


@every_server
def test_an_upload_survives_a_line_that_is_cut(store: S3Store, proxy: Proxy, source: Path) -> None:
    proxy.cuts_up = [PART // 2, 3 * PART]
    watch, entry = Watch(), entry_of(source)
    upload(store, "a/x", source, entry, Meter(entry.size, watch, passes=2))
    watch.check(entry.size, steady=False)
    assert not proxy.cuts_up
    assert proxy.num_up < entry.size + 3 * PART, "no part that had arrived was sent again"
    assert sha256_of(store.chunks("a/x")) == (entry.sha256, entry.size)


class Stop(BaseException):
    """Somebody pressed Ctrl-C."""


@every_server
def test_an_upload_that_was_given_up_is_continued(store: S3Store, proxy: Proxy, source: Path) -> None:
    entry, sent = entry_of(source), Meter(1 << 40, None)

    def until(num_bytes: int) -> None:
        sent.add(num_bytes)
        if sent.done > 5 * PART:
            raise Stop

    with pytest.raises(Stop):
        store.upload("a/x", source, entry.sha256, until)
    assert not store.exists("a/x")
    assert list(store.unfinished("a/")) == ["a/x"]
    before, counted = proxy.num_up, Meter(entry.size, None)
    store.upload("a/x", source, entry.sha256, counted.add)
    assert proxy.num_up - before < entry.size - PART, "what had arrived was not sent again"
    assert counted.done == entry.size
    assert list(store.unfinished("a/")) == []
    assert sha256_of(store.chunks("a/x")) == (entry.sha256, entry.size)


@every_server
def test_parts_of_something_else_are_sent_again(store: S3Store, proxy: Proxy, source: Path) -> None:
    """An unfinished upload to our key may hold anything; parts 3 and 7 are right here, and are kept."""
    client, data = store._bucket.patient, source.read_bytes()
    parts = {1: b"?" * PART, 2: data[PART:][: PART + 1], 3: data[2 * PART : 3 * PART], 7: data[6 * PART :]}
    for key, more in (("a/x", {}), ("a/y", {9: b"cut otherwise"})):
        place = store._bucket.place(key)
        upload_id = client.create_multipart_upload(**place)["UploadId"]
        for number, body in (parts | more).items():
            client.upload_part(**place, UploadId=upload_id, PartNumber=number, Body=body)
        before, sent = proxy.num_up, list[int]()
        store.upload(key, source, sha256_file(source), sent.append)
        assert (proxy.num_up - before < len(data)) == (not more)
        assert sum(sent) == len(data)
        assert store.get(key) == data


@every_server
def test_a_lost_completion_is_no_second_upload(store: S3Store, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    complete, lost = store._parts._complete, [True]

    def lose_the_reply(*arguments: object) -> None:
        complete(*arguments)  # type: ignore[arg-type]
        if lost:
            lost.pop()
            raise Uncertain("no answer")

    monkeypatch.setattr(store._parts, "_complete", lose_the_reply)
    watch, entry = Watch(), entry_of(source)
    upload(store, "a/x", source, entry, Meter(entry.size, watch, passes=2), sleep=lambda _: None)
    watch.check(entry.size, steady=False)
    assert sha256_of(store.chunks("a/x")) == (entry.sha256, entry.size)
    assert list(store.unfinished("a/")) == []


@pytest.mark.parametrize("endpoint", SERVERS[:1], indirect=True)
def test_a_server_that_completes_nothing_conditionally(
    store: S3Store, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete = store._bucket.once.complete_multipart_upload

    def refuse(**what: Any) -> None:
        if "IfNoneMatch" in what:
            answer: Any = {"Error": {"Code": "NotImplemented"}, "ResponseMetadata": {"HTTPStatusCode": 501}}
            raise ClientError(answer, "CompleteMultipartUpload")
        complete(**what)

    monkeypatch.setattr(store._bucket.once, "complete_multipart_upload", refuse)
    assert store.create_file("a/x", source)
    assert not store.create_file("a/x", source)
    assert sha256_of(store.chunks("a/x")) == (sha256_file(source), source.stat().st_size)


@every_server
def test_a_file_that_changes_meanwhile_is_refused(store: S3Store, source: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.write_bytes(b"before")
    for path in (source, small):
        entry = entry_of(path)
        with path.open("r+b") as file:
            file.write(b"after!")
        with pytest.raises((Corrupt, Unavailable)):
            upload(store, f"a/{path.name}", path, entry, Meter(entry.size, None, passes=2))


@every_server
def test_a_download_survives_a_line_that_is_cut(store: S3Store, proxy: Proxy, source: Path, tmp_path: Path) -> None:
    entry = entry_of(source)
    store.create_file("a/x", source)
    for large_bytes in (1 << 40, 1 << 20):
        start, watch, target = proxy.num_down, Watch(), tmp_path / str(large_bytes)
        proxy.cuts_down = [start + cut * PART for cut in (1, 2, 3)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(transfer, "LARGE_BYTES", large_bytes)
            found = download(store, "a/x", target, entry.size, Meter(entry.size, watch))
        assert found == (entry.sha256, entry.size)
        watch.check(entry.size)
        assert not proxy.cuts_down
        assert proxy.num_down - start < entry.size + 4 * PART, "what had arrived was not asked for again"
        assert sha256_file(target) == entry.sha256


@every_store
@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 8000, 8001])
def test_slices_of_every_size(
    open_again: Callable[[], Store], size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "LARGE_BYTES", 999)
    monkeypatch.setattr(transfer, "SLICE_BYTES", 1000)
    store, data, watch = open_again(), os.urandom(size), Watch()
    store.create("a/x", data)
    expected = (hashlib.sha256(data).hexdigest(), size)
    assert download(store, "a/x", tmp_path / "x", size, Meter(size, watch)) == expected
    assert (tmp_path / "x").read_bytes() == data
    if size:
        watch.check(size)
        cut_off = download(store, "a/x", tmp_path / "y", 10_000, Meter(10_000, None))
        assert cut_off == expected, "a value shorter than believed is read as it is"


@pytest.mark.parametrize("large_bytes", [256, 1 << 30])
def test_a_disk_that_takes_a_part_and_then_none(
    registry: Registry, large_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "LARGE_BYTES", large_bytes)
    registry.publish("x", write_folder(tmp_path / "a"))
    write, room = os.pwrite, [1 << 30]

    def reluctant(descriptor: int, data: bytes, position: int) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = write(descriptor, data[: min(len(data) // 2 + 1, room[0])], position)
        room[0] -= written
        return written

    monkeypatch.setattr(os, "pwrite", reluctant)
    registry.pull("x@v1", tmp_path / "whole")
    assert registry.verify("x").num_blobs == 2
    room[0] = 500
    with pytest.raises(Unavailable, match="No space left on device"):
        registry.pull("x@v1", tmp_path / "full")
    assert not (tmp_path / "full").exists()


@every_store
def test_a_damaged_large_blob_never_becomes_a_folder(
    open_again: Callable[[], Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "LARGE_BYTES", 256)
    monkeypatch.setattr(transfer, "SLICE_BYTES", 100)
    registry = Registry(open_again())
    registry.register_base(PROFILE)
    version = registry.publish("x", write_folder(tmp_path / "a"))
    watch = Watch()
    registry.pull("x@v1", tmp_path / "whole", watch)
    watch.check(version.manifest.num_bytes)
    entry = version.manifest.file("adapter_model.safetensors")
    assert entry is not None
    key = version.blob_key(entry.sha256)
    data = registry.store.get(key)
    for damaged in (data[:-1], data[:200] + b"?" + data[201:], b""):
        registry.store.delete(key)
        registry.store.put(key, damaged)
        with pytest.raises(Corrupt, match=r"x@v1 is damaged .*adapter_model\.safetensors"):
            registry.pull("x@v1", tmp_path / "damaged")
        assert not (tmp_path / "damaged").exists()
        with pytest.raises(Corrupt, match=entry.sha256):
            registry.verify("x")


@every_store
def test_bars_end_exactly_where_they_should(open_again: Callable[[], Store], tmp_path: Path) -> None:
    registry = Registry(open_again())
    registry.register_base(PROFILE)
    folder = write_folder(tmp_path / "a")
    for name in ("one.txt", "two.txt"):
        (folder / name).write_text("the same words " * 40_000)
    (folder / "empty.txt").write_text("")
    pushed, verified, pulled = Watch(), Watch(), Watch()
    version = registry.publish("x", folder, progress=pushed)
    registry.verify("x", verified)
    registry.pull("x@v1", tmp_path / "b", pulled)
    unique = sum({entry.sha256: entry.size for entry in version.manifest.files}.values())
    pushed.check(unique)
    verified.check(unique)
    pulled.check(version.manifest.num_bytes)


class Hesitant(MemoryStore):
    """Sends half, and hears nothing: `times` times."""

    def __init__(self, times: int, *, vouches: bool) -> None:
        super().__init__()
        self.times = times
        self.vouches = vouches

    def upload(self, key: str, path: Path, sha256: str, sent: Callable[[int], None]) -> bool:
        data = path.read_bytes()
        sent(len(data) // 2)
        if self.times:
            self.times -= 1
            raise Uncertain("no answer")
        sent(len(data) - len(data) // 2)
        self.data[key] = data
        return self.vouches

    def unfinished(self, prefix: str) -> Iterator[str]:
        yield from ()


@pytest.mark.parametrize("vouches", [True, False])
def test_failed_attempts_are_waited_out_and_not_counted(tmp_path: Path, vouches: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * (1 << 20))
    entry, watch, naps = entry_of(path), Watch(), list[float]()
    store = Hesitant(3, vouches=vouches)
    upload(store, "k", path, entry, Meter(entry.size, watch, passes=2), sleep=naps.append)
    watch.check(entry.size, steady=False)
    assert naps == list(transfer.RETRY_DELAYS_S)
    assert store.num_gets == (0 if vouches else 1), "what the server vouches for is not read back"
    with pytest.raises(Uncertain, match="push again"):
        upload(Hesitant(4, vouches=True), "k", path, entry, Meter(entry.size, None), sleep=naps.append)


@pytest.mark.parametrize("endpoint", SERVERS[1:], indirect=True)
def test_kill_9_during_a_large_upload(endpoint: str, proxy: Proxy, tmp_path: Path) -> None:
    """The next process to publish the same folder sends what is missing, under the transaction it was begun with."""
    url = f"s3://lorimer/killed-{tmp_path.name}"
    command = [sys.executable, "-m", "tests.registry.large", url, str(tmp_path)]
    environ = os.environ | {"LORIMER_S3_ENDPOINT": proxy.url}

    def run(kill_at: float) -> int:
        """How many bytes went up."""
        before = proxy.num_up
        done = subprocess.run([*command, str(kill_at)], env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == (0 if kill_at > 1 else -9), done.stderr
        return proxy.num_up - before

    assert run(0.4) > 60 << 20
    assert run(0.9) < 60 << 20, "while it was read back"
    assert run(2) < 1 << 20
    clear(open_store(url, s3_endpoint=endpoint))
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("place", ["directory", pytest.param("rgw", marks=pytest.mark.s3)])
def test_memory_does_not_grow_with_the_adapter(
    place: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In small; `python -m benchmarks.registry.large` measures 1 GiB."""
    url, num_bytes = f"file://{tmp_path}/store", 96 << 20
    if place == "rgw":
        rgw = request.getfixturevalue("rgw")
        monkeypatch.setenv("LORIMER_S3_ENDPOINT", rgw.endpoint)
        url = f"s3://{rgw.bucket}/memory-{tmp_path.name}"
    for result in measure(url, num_bytes, tmp_path):
        assert result["peak_bytes"] <= BAR_BYTES
        assert result["peak_bytes"] - result["ready_bytes"] < num_bytes // 2, result
    clear(store_of(load_settings(), url))
    shutil.rmtree(tmp_path)


@every_server
def test_two_who_continue_the_same_upload_do_no_harm(store: S3Store, source: Path) -> None:
    """A publisher takes an upload that is under way for one that broke off: both send the same bytes."""
    entry = entry_of(source)
    store._parts._begin("a/x", "text/plain")
    with ThreadPoolExecutor(3) as pool:
        sent = [pool.submit(upload, store, "a/x", source, entry, Meter(entry.size, None)) for _ in range(3)]
    for each in sent:
        each.result()
    assert sha256_of(store.chunks("a/x")) == (entry.sha256, entry.size)


@every_store
def test_what_an_earlier_publisher_left_is_used_if_it_is_sound(
    open_again: Callable[[], Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "LARGE_BYTES", 64)
    registry = Registry(open_again())
    registry.register_base(PROFILE)
    folder = write_folder(tmp_path / "a")
    weights, config = (sha256_file(folder / name) for name in ("adapter_model.safetensors", "adapter_config.json"))
    left, spoilt = "0" * 16, "1" * 16
    for sha256, tx, data in (
        (weights, left, (folder / "adapter_model.safetensors").read_bytes()),
        (config, spoilt, b"anything"),
        (config, "no transaction", (folder / "adapter_config.json").read_bytes()),
    ):
        registry.store.create(f"t/default/a/x/blobs/{sha256}.{tx.replace(' ', '-')}", data)
    watch = Watch()
    version = registry.publish("x", folder, progress=watch)
    watch.check(version.manifest.num_bytes, steady=False)
    assert version.locations[weights] == left
    assert version.locations[config] not in (left, spoilt)
    assert registry.verify("x").num_blobs == 2


@every_server
@pytest.mark.parametrize("is_aborted", [False, True])
def test_an_adopted_transaction_that_is_aborted_counts_no_more(
    store: S3Store, is_aborted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collector may give up the transaction an upload was begun with, until somebody else has committed its blob."""
    monkeypatch.setattr(transfer, "LARGE_BYTES", PART)
    registry, aborts = Registry(store), list[object]()
    registry.register_base(PROFILE)
    folder = write_folder(tmp_path / "a")
    (folder / "large.txt").write_bytes(b"many words " * (PART // 10))
    large, begun_with = sha256_file(folder / "large.txt"), "0123456789abcdef"
    store._parts._begin(f"t/default/a/x/blobs/{large}.{begun_with}", "text/plain")

    def progress(done: int, total: int) -> None:
        if done == total and not aborts:
            aborts.append(registry.abort("x", begun_with) if is_aborted else None)

    version = registry.publish("x", folder, progress=progress)
    assert (version.locations[large] == begun_with) == (not is_aborted)
    registry.abort("x", begun_with)  # too late
    collect(registry, ["x"], grace_s=0.0)
    assert registry.verify("x").num_versions == 1
