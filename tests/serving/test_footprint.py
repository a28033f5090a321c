from __future__ import annotations

from serving.adapter_file import AdapterFile
from serving.footprint import footprint

from .conftest import LOW_RANK, Zoo


def test_no_kind_takes_more_than_was_foreseen(zoo: Zoo) -> None:
    for number, (directory, adapter) in enumerate(zip(zoo.directories, zoo.adapters, strict=True)):
        foreseen = footprint(AdapterFile(directory, zoo.base.profile).layout, zoo.base)
        assert foreseen >= adapter.num_bytes, directory
        if number < len(LOW_RANK):
            assert foreseen == adapter.num_bytes, "low rank is foreseen exactly"
