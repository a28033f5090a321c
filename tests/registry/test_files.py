"""Uploaded files: whole or not there, however an upload or a deletion ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import to_builtins

from registry.errors import Corrupt, NotFound
from registry.files import Files
from registry.jobs import Jobs
from registry.store import Store
from registry.tuning import KIND, TuneJob, needed_by, read_tune_job
from tests.registry.conftest import STORES, FakeClock
from tests.registry.stores import MemoryStore, Wrapper

ROWS = b'{"prompt": "a", "completion": "b"}\n'


class Died(Exception):
    pass


class Dying(Wrapper):
    """Whoever uses it dies before the write or deletion number `at`."""

    def __init__(self, inner: Store, at: int) -> None:
        super().__init__(inner)
        self.left = at

    def __getattr__(self, name: str) -> Any:
        if name in ("create", "create_file", "put", "delete"):
            if self.left == 0:
                raise Died
            self.left -= 1
        return super().__getattr__(name)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(ROWS)
    return path


@pytest.mark.parametrize("open_again", STORES, indirect=True)
def test_what_was_put_is_there_for_everybody(
    open_again: Callable[[], Store], rows: Path, tmp_path: Path, clock: FakeClock
) -> None:
    file = Files(open_again(), clock=clock).put(rows, filename="../../my rows.jsonl", purpose="fine-tune")
    files = Files(open_again(), clock=clock)
    assert files.get(file.id) == file
    assert (file.filename, file.num_bytes, file.created_at) == ("../../my rows.jsonl", len(ROWS), clock.now)
    assert files.fetch(file.id, tmp_path / "back") == file
    assert (tmp_path / "back").read_bytes() == b"".join(files.chunks(file.id)) == ROWS
    with pytest.raises(NotFound):
        Files(open_again(), "another").get(file.id)
    files.delete(file.id)
    assert files.list() == ()
    assert list(open_again().list("t/default/files/")) == []
    for gone in (files.get, files.delete, files.chunks):
        with pytest.raises(NotFound):
            gone(file.id)


def test_the_same_bytes_twice_are_two_files_in_the_order_they_came(rows: Path, clock: FakeClock) -> None:
    files = Files(MemoryStore(), clock=clock)
    ids = []
    for _ in range(5):
        clock.now += 1
        ids.append(files.put(rows, filename="rows", purpose="fine-tune").id)
    assert [file.id for file in files.list()] == ids
    assert [file.id for file in files.list(newest_first=True, limit=2)] == [ids[4], ids[3]]
    assert [file.id for file in files.list(newest_first=True, after=ids[3])] == [ids[2], ids[1], ids[0]]
    assert [file.id for file in files.list(after=ids[3])] == [ids[4]]


@pytest.mark.parametrize(
    "id", ["", "file-", "../x", "file-" + "A" * 26, f"file-{'a' * 27}", f"file-{'l' * 26}", f"file-{'a' * 26}\n"]
)
def test_what_is_no_id_is_no_file(id: str) -> None:
    with pytest.raises(NotFound):
        Files(MemoryStore()).get(id)


def test_an_upload_that_is_cut_short_leaves_nothing_to_be_seen(rows: Path) -> None:
    cuts = 0
    while True:
        store = MemoryStore()
        try:
            Files(Dying(store, cuts)).put(rows, filename="rows", purpose="fine-tune")
        except Died:
            assert Files(store).list() == ()
            cuts += 1
            continue
        break
    assert (cuts, len(Files(store).list())) == (2, 1)


def test_a_deletion_that_is_cut_short_has_deleted_or_not(rows: Path) -> None:
    seen = []
    for cut in range(2):
        store = MemoryStore()
        file = Files(store).put(rows, filename="rows", purpose="fine-tune")
        with pytest.raises(Died):
            Files(Dying(store, cut)).delete(file.id)
        seen.append([b"".join(Files(store).chunks(each.id)) for each in Files(store).list()])
    assert seen == [[ROWS], []]


def test_what_was_cut_short_is_swept_after_a_day_and_nothing_else(rows: Path, clock: FakeClock) -> None:
    store = MemoryStore()
    files = Files(store, clock=clock)
    kept, deleted = (files.put(rows, filename="rows", purpose="fine-tune") for _ in range(2))
    with pytest.raises(Died):
        Files(Dying(store, 1), clock=clock).put(rows, filename="rows", purpose="fine-tune")
    with pytest.raises(Died):
        Files(Dying(store, 1), clock=clock).delete(deleted.id)
    assert (len(store.data), files.sweep()) == (4, 0)
    clock.now += 86_401
    late = files.put(rows, filename="rows", purpose="fine-tune")
    assert (files.sweep(), files.sweep()) == (2, 0)
    assert files.list() == (kept, late)
    assert len(store.data) == 4


@pytest.mark.parametrize("damaged", [b"other", ROWS[:-1], b""])
def test_damage_is_told_before_the_last_byte(rows: Path, tmp_path: Path, damaged: bytes) -> None:
    store = MemoryStore()
    files = Files(store)
    file = files.put(rows, filename="rows", purpose="fine-tune")
    store.put(f"t/default/files/{file.id}/content", damaged)
    with pytest.raises(Corrupt, match="damaged"):
        files.fetch(file.id, tmp_path / "back")
    assert not (tmp_path / "back").exists()
    with pytest.raises(Corrupt, match="damaged"):
        list(files.chunks(file.id))
    store.put(f"t/default/files/{file.id}/record.json", b"{")
    with pytest.raises(Corrupt, match="not a readable record"):
        files.get(file.id)


def test_a_job_in_the_log_is_read_as_it_was_filed_and_more_is_passed_over() -> None:
    wanted = TuneJob(adapter="a", training_file="file-1", validation_file="file-2", epochs=3)
    assert read_tune_job(to_builtins(wanted)) == wanted
    assert read_tune_job({**to_builtins(wanted), "of a later release": 1}) == wanted


def test_a_file_is_needed_until_the_last_job_that_reads_it_has_ended() -> None:
    jobs = Jobs(MemoryStore())
    jobs.submit("other", {"kind": "drift-retrain", "training_file": "file-1"})
    jobs.submit("tune", {"kind": KIND, "adapter": "a", "training_file": "file-1", "validation_file": "file-2"})
    for id, needing in (("file-1", "tune"), ("file-2", "tune"), ("file-3", None)):
        found = needed_by(jobs.list(), id)
        assert (found and found.key) == needing
    jobs.cancel("tune")
    assert needed_by(jobs.list(), "file-1") is None
