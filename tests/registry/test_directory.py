"""What only a directory does: survive crashes between system calls, and turn disk errors into one line."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.directory import TEMPORARY, DirectoryStore
from registry.errors import Invalid, LorimerError, Unavailable


def test_no_space_leaves_nothing_visible(directory_store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    directory_store.create("a/first", b"")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Unavailable, match=r"cannot write a/b .*No space left on device"):
        directory_store.create("a/b", b"data")
    monkeypatch.undo()
    assert list(directory_store.list("")) == ["a/first"]
    assert list((directory_store.root / TEMPORARY).iterdir()) == []


def test_stale_temporary_files_are_invisible_and_swept(directory_store: DirectoryStore) -> None:
    folder = directory_store.root / TEMPORARY
    folder.mkdir(parents=True)
    for name, age_s in (("old", 1e6), ("new", 0)):
        (folder / name).write_bytes(b"half")
        os.utime(folder / name, (1e9 - age_s, 1e9 - age_s) if age_s else None)
    directory_store.create("a", b"")
    assert list(directory_store.list("")) == ["a"]
    directory_store.sweep()
    assert [path.name for path in folder.iterdir()] == ["new"]


def test_a_key_cannot_be_a_folder_too(directory_store: DirectoryStore) -> None:
    directory_store.create("a/b", b"")
    with pytest.raises(Invalid, match="collides"):
        directory_store.create("a", b"")
    with pytest.raises(Invalid, match="collides"):
        directory_store.create("a/b/c", b"")
    assert not directory_store.exists("a")


def test_a_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("")
    with pytest.raises(Unavailable, match="not a directory"):
        DirectoryStore(tmp_path / "root").create("a", b"")


def test_missing_source_file_names_it(directory_store: DirectoryStore, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"missing\.bin"):
        directory_store.create_file("a", tmp_path / "missing.bin")


def test_empty_folders_go_and_come_back_under_load(directory_store: DirectoryStore) -> None:
    """A delete removes the folder another thread is about to write into; nobody may notice."""

    def churn(number: int) -> None:
        for _ in range(100):
            key = f"a/b/c/{number}"
            assert directory_store.create(key, b"x")
            directory_store.delete(key)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(churn, range(4)))
    assert [path.name for path in directory_store.root.iterdir()] == [TEMPORARY]


@settings(max_examples=60, deadline=None)
@given(
    names=st.sets(st.text("ab-.0/", min_size=1, max_size=5), max_size=12),
    start=st.text("ab-.0/", max_size=6),
)
def test_a_listing_starts_where_it_is_told(names: set[str], start: str) -> None:
    with TemporaryDirectory() as root:
        store = DirectoryStore(Path(root))
        keys = []
        for name in sorted(names):
            with suppress(LorimerError):
                if store.create(f"l/{name}", b""):
                    keys.append(f"l/{name}")
        assert list(store.list("l/", start_after=f"l/{start}")) == sorted(key for key in keys if key > f"l/{start}")
