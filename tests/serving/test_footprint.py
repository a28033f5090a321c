from __future__ import annotations

from serving.adapter_file import AdapterFile
from serving.footprint import footprint

from .conftest import LOW_RANK, Zoo


def test_no_kind_takes_more_than_was_foreseen(zoo: Zoo) -> None:
    for number, (directory, adapter) in enumerate(zip(zoo.directories, zoo.adapters, strict=True)):
        foreseen = footprint(AdapterFile(directory, zoo.base.profile), zoo.base)
        assert foreseen >= adapter.num_bytes, directory
        if number < len(LOW_RANK):
            assert foreseen == adapter.num_bytes, "low rank is foreseen exactly"


def test_what_is_small_is_foreseen_as_small(zoo: Zoo) -> None:
    """Foreseeing too much evicts others for nothing. A copy of the base's own weight is told only by its values."""
    for directory, adapter in zip(zoo.directories, zoo.adapters, strict=True):
        file = AdapterFile(directory, zoo.base.profile)
        if not any("base_layer.weight" in module for module in file.layout.modules):
            assert footprint(file, zoo.base) <= 2 * adapter.num_bytes + 4096, directory
