"""Datasets are named by their bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.canonical import sha256
from registry.datasets import Datasets
from registry.directory import DirectoryStore
from registry.errors import Corrupt, NotFound, Unavailable


def test_put_and_fetch(directory_store: DirectoryStore, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(b'{"a": 1}\n')
    datasets = Datasets(directory_store)
    name = datasets.put(rows)
    assert name == datasets.put(rows) == sha256(rows.read_bytes())
    datasets.fetch(name, tmp_path / "back.jsonl")
    assert (tmp_path / "back.jsonl").read_bytes() == rows.read_bytes()
    assert directory_store.exists(datasets.uri(name).removeprefix("lorimer:"))


def test_damage_and_absence(directory_store: DirectoryStore, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(b"{}\n")
    datasets = Datasets(directory_store)
    name = datasets.put(rows)
    directory_store.put(f"t/default/datasets/{name}.jsonl", b"other")
    with pytest.raises(Corrupt, match="damaged"):
        datasets.fetch(name, tmp_path / "back")
    assert not (tmp_path / "back").exists()
    with pytest.raises(Corrupt):
        datasets.put(rows)
    with pytest.raises(NotFound):
        datasets.fetch("0" * 64, tmp_path / "back")
    with pytest.raises(Unavailable):
        datasets.put(tmp_path / "absent")
