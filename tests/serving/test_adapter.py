from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from registry.errors import LorimerError, NotFound, Refused
from registry.validation import check_adapter, check_folder
from serving.adapter import CONFIG, WEIGHTS, LoadedAdapter
from serving.base import Base

from .zoo import KINDS, Zoo

PREFIX = "base_model.model."
KEY = f"{PREFIX}model.layers.1.mlp.up_proj.lora_{{}}.weight"
MAGNITUDE = f"{PREFIX}model.layers.1.mlp.up_proj.lora_magnitude_vector"
TOKENS = f"{PREFIX}model.embed_tokens.token_adapter.trainable_tokens_delta"
IA3 = f"{PREFIX}model.layers.1.self_attn.k_proj.ia3_l"


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
        ({"use_dora": True}, "no matching lora_magnitude_vector"),
        ({"lora_bias": True}, r"no matching lora_B\.bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"peft_type": "LOHA"}, "LOHA"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
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
        ({KEY.format("B"): None}, Refused),
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
    with pytest.raises(Refused, match=WEIGHTS):
        LoadedAdapter.from_directory(directory, tiny_base)
    (directory / WEIGHTS).unlink()
    with pytest.raises(NotFound, match=WEIGHTS):
        LoadedAdapter.from_directory(directory, tiny_base)
    (directory / CONFIG).write_text("{")
    (directory / WEIGHTS).write_bytes(b"")
    with pytest.raises(Refused, match=CONFIG):
        LoadedAdapter.from_directory(directory, tiny_base)


def test_what_the_engine_applies_is_what_may_be_pushed(zoo: Zoo) -> None:
    methods = set()
    for number, path in enumerate(zoo.directories):
        checked = check_adapter(path, check_folder(path), zoo.base.profile)
        methods.add(checked.method)
        parts = [part for delta in zoo.adapters[number].deltas.values() for part in delta.parts]
        assert checked.rank >= max((part.rank for part in parts), default=0)
        assert bool(checked.rank) == bool(checked.alpha) == (checked.config.peft_type == "LORA")
    assert methods == {"lora", "rslora", "dora", "ia3", "prompt-tuning"}


def test_an_ia3_scale_that_siblings_do_not_share_becomes_a_weight(zoo: Zoo) -> None:
    """`up_proj` is fused with `gate_proj`, whose input is not scaled; `down_proj` is alone."""
    by_names = {site.names[0].rpartition(".")[2]: site.index for site in zoo.base.sites}
    shared, lone = (
        next(i for i, kind in enumerate(KINDS) if feedforward in kind.get("feedforward_modules", ()))
        for feedforward in ("down_proj", "up_proj")
    )
    delta = zoo.adapters[shared].deltas[by_names["down_proj"]]
    assert delta.input_gain is not None
    assert delta.replacement is None
    delta = zoo.adapters[lone].deltas[by_names["gate_proj"]]
    assert delta.input_gain is None
    assert delta.replacement is not None


def test_an_embedding_that_was_only_copied_costs_nothing(tiny_base: Base, make_adapter: Any) -> None:
    """PEFT saves targeted embeddings whole; only another value than the base's is kept."""
    path = make_adapter(targets=("embed_tokens", "lm_head"), save_embeddings=True)
    assert f"{PREFIX}lm_head.base_layer.weight" in load_file(path / WEIGHTS)
    adapter = LoadedAdapter.from_directory(path, tiny_base)
    assert adapter.embedding is not None
    assert adapter.head is not None
    assert adapter.embedding.replacement is adapter.head.replacement is None
    edit_weights(path, {f"{PREFIX}lm_head.base_layer.weight": torch.ones(259, 48)})
    changed = LoadedAdapter.from_directory(path, tiny_base)
    assert changed.head is not None
    torch.testing.assert_close(changed.head.replacement, torch.ones(259, 48))


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ({"kind": "prompt", "num_virtual_tokens": 3}, {"prompt_embeddings": torch.zeros(2, 48)}, "prompt_embeddings"),
        ({"kind": "prompt", "num_virtual_tokens": 3}, {"extra": torch.zeros(1)}, "tensor extra"),
        ({"trainable_token_indices": [1, 2]}, {TOKENS: torch.zeros(3, 48)}, "trainable_tokens_delta has shape"),
        ({"modules_to_save": ["norm"]}, {}, "norm.weight"),
        ({"modules_to_save": ["lm_head"]}, {f"{PREFIX}lm_head.weight": torch.zeros(7, 48)}, "lm_head.weight"),
        ({"modules_to_save": ["lm_head"]}, {f"{PREFIX}lm_head.weight": None}, "holds nothing of lm_head"),
        ({"kind": "ia3", "targets": ["k_proj"], "feedforward_modules": []}, {IA3: torch.zeros(1, 48)}, "k_proj.ia3_l"),
        ({"use_dora": True}, {MAGNITUDE: torch.zeros(48)}, "up_proj.lora_magnitude_vector"),
    ],
)
def test_bad_tensors_of_every_kind_are_named(
    tiny_base: Base, make_adapter: Any, kind: dict[str, Any], changes: dict[str, torch.Tensor | None], words: str
) -> None:
    path = make_adapter(**kind)
    edit_weights(path, changes)
    with pytest.raises(Refused) as caught:
        LoadedAdapter.from_directory(path, tiny_base)
    assert words in caught.value.message


@pytest.mark.parametrize("tokens", [[1, 1], [-1, 2], [259, 1]])
def test_tokens_outside_the_vocabulary_are_refused(tiny_base: Base, make_adapter: Any, tokens: list[int]) -> None:
    path = make_adapter(trainable_token_indices=[1, 2])
    edit_config(path, trainable_token_indices=tokens)
    with pytest.raises(Refused, match="repeats a token or leaves the vocabulary"):
        LoadedAdapter.from_directory(path, tiny_base)


def test_a_magnitude_over_nothing_is_refused(tiny_base: Base, make_adapter: Any) -> None:
    """A row of the weight that the change cancels has no direction for DoRA to scale."""
    path = make_adapter(use_dora=True, rank=1, alpha=1, targets=("up_proj",))
    weight = next(site for site in tiny_base.sites if site.names[0].endswith("1.mlp.gate_proj")).weight[96:]
    b = torch.zeros(96, 1)
    b[0] = 1
    edit_weights(path, {KEY.format("A"): -weight[:1].clone(), KEY.format("B"): b})
    with pytest.raises(Refused, match="are not finite"):
        LoadedAdapter.from_directory(path, tiny_base)
