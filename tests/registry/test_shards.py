"""Joined weights are the tensors of their shards, in bytes that do not depend on how they were split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from registry.errors import Refused
from registry.exchange.shards import join
from tests.registry.folders import tensors


def split(folder: Path, count: int) -> dict[str, Path]:
    folder.mkdir()
    made, paths = tensors(), {}
    for number in range(count):
        path = folder / f"adapter_model-{number + 1:05}-of-{count:05}.safetensors"
        save_file({name: made[name] for name in sorted(made)[number::count]}, path)
        paths[path.name] = path
    return paths


@pytest.mark.parametrize("count", [1, 2, 4])
def test_joined_is_what_was_split(tmp_path: Path, count: int) -> None:
    join(split(tmp_path / "shards", count), tmp_path / "joined.safetensors")
    joined = load_file(tmp_path / "joined.safetensors")
    assert joined.keys() == tensors().keys()
    assert all(np.array_equal(joined[name], value) for name, value in tensors().items())


def test_the_split_leaves_no_trace(tmp_path: Path) -> None:
    for count in (2, 3):
        join(split(tmp_path / str(count), count), tmp_path / f"{count}.safetensors")
    assert (tmp_path / "2.safetensors").read_bytes() == (tmp_path / "3.safetensors").read_bytes()


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    shards = split(tmp_path / "shards", 2)
    first, second = sorted(shards)
    shards[second].write_bytes(shards[first].read_bytes())
    with pytest.raises(Refused, match=f"is in {first} as well"):
        join(shards, tmp_path / "joined.safetensors")
