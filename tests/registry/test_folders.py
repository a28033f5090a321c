"""Local folders: whole or not at all, borrowed or copied, swept after a crash."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from registry.errors import Conflict, Refused, Unavailable
from registry.folders import appearing, staged, temporary_folder


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    with appearing(tmp_path / "new" / "out") as folder:
        (folder / "a").write_text("a")
        assert not (tmp_path / "new" / "out").exists()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]
    assert (tmp_path / "new" / "out" / "a").read_text() == "a"


def test_a_folder_does_not_appear_by_half(tmp_path: Path) -> None:
    def fill() -> None:
        with appearing(tmp_path / "out") as folder:
            (folder / "a").write_text("a")
            raise KeyError

    with pytest.raises(KeyError):
        fill()
    assert not [*tmp_path.iterdir()]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with appearing(tmp_path / "out"):
        pass
    (tmp_path / "out" / "a").write_text("a")
    with pytest.raises(Conflict, match="not an empty folder"), appearing(tmp_path / "out"):
        pass


def test_a_race_for_a_folder_has_one_winner(tmp_path: Path) -> None:
    def fill() -> None:
        with appearing(tmp_path / "raced"):
            (tmp_path / "raced").mkdir()
            (tmp_path / "raced" / "a").write_text("a")

    with pytest.raises(Conflict, match="meanwhile"):
        fill()


def test_staged_files_are_borrowed_and_given_back(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    with staged({"b/c": tmp_path / "a"}, tmp_path / "scratch") as folder:
        assert (folder / "b" / "c").read_text() == "a"
        assert (folder / "b" / "c").stat().st_ino == (tmp_path / "a").stat().st_ino
    assert not [*(tmp_path / "scratch").iterdir()]
    assert (tmp_path / "a").read_text() == "a"


def test_where_links_are_not_allowed_files_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "a").write_text("a")
    with staged({"b": tmp_path / "a"}, tmp_path / "scratch") as folder:
        assert (folder / "b").read_text() == "a"
        assert (folder / "b").stat().st_ino != (tmp_path / "a").stat().st_ino


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("/etc/hostname")
    with pytest.raises((Refused, Unavailable)), staged({"b": tmp_path / "a"}, tmp_path / "scratch"):
        pass


def test_what_crashed_processes_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / "folder-old" / "x").mkdir(parents=True)
    os.utime(tmp_path / "folder-old", (1, 1))
    (tmp_path / "folder-young").mkdir()
    with temporary_folder(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["folder-young"]
