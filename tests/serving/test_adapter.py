from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from registry.errors import Corrupt, LorimerError, NotFound, Refused
from serving.adapter import CONFIG, WEIGHTS, LoadedAdapter
from serving.base import Base

KEY = "base_model.model.model.layers.1.mlp.up_proj.lora_{}.weight"


@pytest.fixture
def directory(make_adapter: Any, tmp_path: Path) -> Path:
    return Path(shutil.copytree(make_adapter(rank=4, seed=1), tmp_path / "adapter"))


def edit_config(directory: Path, **changes: Any) -> None:
    path = directory / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(directory: Path, changes: dict[str, torch.Tensor | None]) -> None:
    tensors = {**load_file(directory / WEIGHTS), **changes}
    save_file({key: value for key, value in tensors.items() if value is not None}, directory / WEIGHTS)


def test_siblings_share_one_a(tiny_base: Base, directory: Path) -> None:
    adapter = LoadedAdapter.from_directory(directory, tiny_base, digest="sha256:x")
    site = next(site for site in tiny_base.sites if site.names[0].endswith("layers.0.self_attn.q_proj"))
    delta = adapter.deltas[site.index]
    assert delta.a.shape == (48, 12)
    assert [(part.sibling, part.rank) for part in delta.parts] == [(0, 4), (1, 4), (2, 4)]
    assert adapter.digest == "sha256:x"


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"peft_type": "IA3"}, "LoRA"),
    ],
)
def test_what_cannot_be_applied_is_refused_by_name(
    tiny_base: Base, directory: Path, options: dict[str, Any], word: str
) -> None:
    edit_config(directory, **options)
    with pytest.raises(Refused, match=word):
        LoadedAdapter.from_directory(directory, tiny_base)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({KEY.format("A"): torch.full((4, 48), float("nan"))}, Refused),
        ({KEY.format("A"): torch.zeros(4, 47)}, Refused),
        ({KEY.format("B"): torch.zeros(96, 5)}, Refused),
        ({KEY.format("B"): None}, Corrupt),
        ({"base_model.model.model.layers.9.mlp.up_proj.lora_A.weight": torch.zeros(4, 48)}, Refused),
        ({"base_model.model.lm_head.weight": torch.zeros(3)}, Refused),
    ],
)
def test_bad_tensors_are_named(
    tiny_base: Base, directory: Path, changes: dict[str, torch.Tensor | None], error: type[LorimerError]
) -> None:
    edit_weights(directory, changes)
    with pytest.raises(error) as caught:
        LoadedAdapter.from_directory(directory, tiny_base)
    name = next(iter(changes)).removeprefix("base_model.model.").split(".lora_")[0].removesuffix(".weight")
    assert name in caught.value.message


def test_damaged_and_missing_files(tiny_base: Base, directory: Path) -> None:
    (directory / WEIGHTS).write_bytes(b"not safetensors at all")
    with pytest.raises(Corrupt, match=WEIGHTS):
        LoadedAdapter.from_directory(directory, tiny_base)
    (directory / WEIGHTS).unlink()
    with pytest.raises(NotFound, match=WEIGHTS):
        LoadedAdapter.from_directory(directory, tiny_base)
    (directory / CONFIG).write_text("{")
    with pytest.raises(Corrupt, match=CONFIG):
        LoadedAdapter.from_directory(directory, tiny_base)
