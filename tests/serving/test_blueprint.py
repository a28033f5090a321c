"""A plan for all adapters of one recipe gives what each would have become on its own, to the last bit."""

from __future__ import annotations

import gc
import shutil
import weakref
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from registry.errors import Refused
from serving import native
from serving.adapter import CONFIG, WEIGHTS, LoadedAdapter
from serving.adapter_file import AdapterFile
from serving.base import Base
from serving.blueprint import LINE, Blueprint, SlabDeltas
from serving.slab import PAGE

from .conftest import Zoo

pytestmark = pytest.mark.skipif(native.kernel(torch.float32) is None, reason="no C compiler here")
STORED = [torch.float32, torch.bfloat16]
AS_PEFT = {"format": "pt"}
"""What PEFT has in its headers besides."""


def planned(zoo: Zoo) -> list[Path]:
    """The directories of adapters that there is a blueprint for."""
    return [path for path in zoo.directories if Blueprint.of(AdapterFile(path, zoo.base.profile), zoo.base)]


def stored_as(directory: Path, dtype: torch.dtype, folder: Path) -> Path:
    copy = Path(shutil.copytree(directory, folder / f"{directory.name}-{dtype}"))
    save_file({name: tensor.to(dtype) for name, tensor in load_file(copy / WEIGHTS).items()}, copy / WEIGHTS)
    return copy


def one_by_one(path: Path, base: Base) -> LoadedAdapter:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Blueprint, "of", lambda *_: None)
        return LoadedAdapter.from_directory(path, base)


@pytest.mark.parametrize("dtype", STORED)
def test_all_at_once_is_one_by_one(zoo: Zoo, tmp_path: Path, dtype: torch.dtype) -> None:
    assert len(planned(zoo)) >= 5
    for path in planned(zoo):
        copy = stored_as(path, dtype, tmp_path)
        found, expected = LoadedAdapter.from_directory(copy, zoo.base), one_by_one(copy, zoo.base)
        assert isinstance(found.deltas, SlabDeltas)
        assert found.deltas.keys() == expected.deltas.keys()
        for site, delta in expected.deltas.items():
            own = found.deltas[site]
            assert torch.equal(own.a, delta.a)
            assert [(part.sibling, part.start, part.stop) for part in own.parts] == [
                (part.sibling, part.start, part.stop) for part in delta.parts
            ]
            assert all(torch.equal(one.b, other.b) for one, other in zip(own.parts, delta.parts, strict=True))
            assert (own.gain, own.bias, own.input_gain, own.replacement) == (None, None, None, None)


def test_every_tensor_has_lines_of_its_own_in_one_slab(zoo: Zoo) -> None:
    deltas = LoadedAdapter.from_directory(planned(zoo)[0], zoo.base).deltas
    assert isinstance(deltas, SlabDeltas)
    begin = deltas.memory.data_ptr()
    tensors = [tensor for delta in deltas.values() for tensor in (delta.a, *(part.b for part in delta.parts))]
    taken = sorted((tensor.data_ptr() - begin, tensor.nbytes) for tensor in tensors)
    assert all(offset % LINE == 0 for offset, _ in taken)
    assert all(offset + size <= then for (offset, size), (then, _) in pairwise(taken))
    assert taken[-1][0] + taken[-1][1] <= deltas.memory.nbytes < taken[-1][0] + taken[-1][1] + PAGE


def test_adapters_of_one_recipe_share_a_blueprint(zoo: Zoo, tmp_path: Path) -> None:
    directory = planned(zoo)[0]
    other = Path(shutil.copytree(directory, tmp_path / "other"))
    save_file({name: -tensor for name, tensor in load_file(other / WEIGHTS).items()}, other / WEIGHTS, AS_PEFT)
    files = [AdapterFile(path, zoo.base.profile) for path in (directory, other)]
    one, same = (Blueprint.of(file, zoo.base) for file in files)
    assert one is same is not None
    loaded = [LoadedAdapter.from_directory(path, zoo.base) for path in (directory, other)]
    assert all(torch.equal(loaded[0].deltas[site].a, -loaded[1].deltas[site].a) for site in loaded[0].deltas)


@pytest.mark.parametrize("side", ["lora_A", "lora_B"])
@pytest.mark.parametrize("place", [0, -1])
def test_whatever_is_not_finite_is_named(zoo: Zoo, tmp_path: Path, side: str, place: int) -> None:
    directory = Path(shutil.copytree(planned(zoo)[0], tmp_path / "bad"))
    weights = load_file(directory / WEIGHTS)
    for name in [name for name in weights if side in name]:
        changed = {**weights, name: weights[name].clone()}
        changed[name].view(-1)[place] = float("inf")
        save_file(changed, directory / WEIGHTS)
        with pytest.raises(Refused, match="not finite") as caught:
            LoadedAdapter.from_directory(directory, zoo.base)
        assert name.removeprefix("base_model.model.").partition(".lora_")[0] in caught.value.message


def test_the_file_may_go_and_views_keep_the_slab(zoo: Zoo, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(planned(zoo)[0], tmp_path / "gone"))
    adapter = LoadedAdapter.from_directory(directory, zoo.base)
    expected = {site: delta.a.clone() for site, delta in adapter.deltas.items()}
    with (directory / WEIGHTS).open("r+b") as file:
        file.truncate(0)
    (directory / CONFIG).unlink()
    views, slab = {site: delta.a for site, delta in adapter.deltas.items()}, weakref.ref(adapter)
    del adapter
    gc.collect()
    assert slab() is None
    assert all(torch.equal(views[site], expected[site]) for site in views)


def test_a_load_can_be_paced(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.blueprint.PIECE_BYTES", 1024)
    base, calls = zoo.base, list[None]()
    file = AdapterFile(planned(zoo)[-1], base.profile)
    blueprint = Blueprint(file.recipe, base)
    blueprint.carry_out(file, lambda: calls.append(None))
    assert 2 < len(calls) <= blueprint.num_bytes / 1024
