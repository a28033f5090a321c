from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from serving.adapter import CONFIG, WEIGHTS
from serving.adapter_file import AdapterFile
from serving.base import Base

from .conftest import Zoo


def values(directory: Path, base: Base) -> dict[str, torch.Tensor]:
    file = AdapterFile(directory, base.profile)
    entries = [entry for module in file.layout.modules for entry in module.parts.values()]
    return {entry.name: file.tensor(entry) for entry in entries}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("padding", range(4))
def test_values_are_those_that_safetensors_reads(zoo: Zoo, tmp_path: Path, dtype: torch.dtype, padding: int) -> None:
    """Data that begins at an odd place in the file, too."""
    stored = {name: tensor.to(dtype) for name, tensor in load_file(zoo.directories[0] / WEIGHTS).items()}
    save_file(stored, tmp_path / WEIGHTS)
    raw = (tmp_path / WEIGHTS).read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = raw[8 : 8 + length] + b" " * padding
    (tmp_path / WEIGHTS).write_bytes(len(header).to_bytes(8, "little") + header + raw[8 + length :])
    (tmp_path / CONFIG).write_text((zoo.directories[0] / CONFIG).read_text())
    read = values(tmp_path, zoo.base)
    assert set(read) == set(stored)
    for name, tensor in read.items():
        assert torch.equal(tensor, stored[name].float()), name


def test_an_adapter_outlives_its_file(zoo: Zoo, tmp_path: Path) -> None:
    for name in (WEIGHTS, CONFIG):
        (tmp_path / name).write_bytes((zoo.directories[0] / name).read_bytes())
    read = values(tmp_path, zoo.base)
    before = {name: tensor.clone() for name, tensor in read.items()}
    with (tmp_path / WEIGHTS).open("r+b") as file:
        file.truncate(0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in read.items())


def test_loading_again_and_again_leaves_nothing(zoo: Zoo) -> None:
    """safetensors' own reader left some 66 bytes behind for every tensor it read."""
    values(zoo.directories[0], zoo.base)
    tracemalloc.start()
    try:
        for _ in range(3):
            values(zoo.directories[0], zoo.base)
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(200):
            values(zoo.directories[0], zoo.base)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 20_000
