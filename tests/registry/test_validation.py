"""What may not enter: each refusal names the file, tensor or key."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from registry.adapter_config import read_adapter_config
from registry.adapters import Registry
from registry.errors import Invalid, NotFound, Refused
from registry.validation import CheckedAdapter, check_adapter, check_folder
from tests.registry.folders import DOWN, PREFIX, PROFILE, Q, tensors, write_folder

A, B = f"{PREFIX}{Q}.lora_A.weight", f"{PREFIX}{Q}.lora_B.weight"


def check(folder: Path) -> CheckedAdapter:
    return check_adapter(folder, check_folder(folder), PROFILE)


def test_a_plain_adapter_passes(tmp_path: Path) -> None:
    checked = check(write_folder(tmp_path / "a"))
    assert (checked.method, checked.rank, checked.targets) == ("lora", 2, ("down_proj", "q_proj"))
    assert [entry.path for entry in checked.files] == ["adapter_config.json", "adapter_model.safetensors"]


def test_mixed_ranks_and_alphas_pass(tmp_path: Path) -> None:
    folder = write_folder(
        tmp_path / "a",
        weights=tensors({Q: 2, DOWN: 5}),
        rank_pattern={"layers.1.mlp.down_proj": 5},
        alpha_pattern={"q_proj": 10},
        use_rslora=True,
    )
    checked = check(folder)
    assert (checked.method, checked.rank) == ("rslora", 5)
    assert checked.config.scaling_of(Q) == pytest.approx(10 / 2**0.5)
    assert checked.config.scaling_of(DOWN) == pytest.approx(4 / 5**0.5)


def test_layers_to_transform(tmp_path: Path) -> None:
    weights = tensors({Q: 2})
    assert check(write_folder(tmp_path / "a", weights=weights, layers_to_transform=[0])).rank == 2
    with pytest.raises(Refused, match="not among the config's target_modules"):
        check(write_folder(tmp_path / "b", weights=weights, layers_to_transform=[1], layers_pattern="layers"))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"peft_type": "LOHA"}, "peft_type is 'LOHA'"),
        ({"task_type": "SEQ_CLS"}, "task_type is 'SEQ_CLS'"),
        ({"use_dora": True, "lora_bias": True}, "lora_bias and use_dora"),
        ({"bias": "some"}, "Invalid enum value 'some'"),
        ({"modules_to_save": ["lm_.*"]}, "modules_to_save holds the pattern"),
        ({"num_virtual_tokens": 3}, "num_virtual_tokens is set"),
        ({"kasa_config": {"beta": 1}}, "kasa_config is set"),
        ({"target_parameters": ["x"]}, "target_parameters is set"),
        ({"layer_replication": [[0, 1]]}, "layer_replication is set"),
        ({"alora_invocation_tokens": [1]}, "alora_invocation_tokens is set"),
        ({"some_future_method": {"a": 1}}, "some_future_method is set"),
        ({"init_lora_weights": "pissa_niter_4"}, "changes the base weights"),
        ({"target_modules": "(.*)*_proj"}, "target_modules holds the pattern"),
        ({"target_modules": "all-linear"}, "must name modules"),
        ({"target_modules": []}, "must name modules"),
        ({"target_modules": ["q_proj|down_proj"]}, "holds the pattern"),
        ({"rank_pattern": {"(q+)+_proj": 4}}, "rank_pattern holds the pattern"),
        ({"alpha_pattern": {"(?=q)_proj": 4}}, "alpha_pattern holds the pattern"),
        ({"alpha_pattern": {"(q_proj": 4}}, "no regular expression"),
        ({"peft_type": "IA3", "r": 2}, "bias is set"),
        ({"peft_type": "PROMPT_TUNING"}, "is set"),
        ({"rank_pattern": {"q_proj": 0}}, "rank must be at least 1"),
        ({"r": "2"}, "Expected `int`"),
        ({"auto_map": {"AutoModel": "code.py"}}, "auto_map names code"),
        ({"auto_mapping": {"auto_map": "x"}}, "auto_map names code"),
        ({"base_model_name_or_path": "other/base"}, "trained on 'other/base'"),
    ],
)
def test_configs_that_cannot_be_applied(tmp_path: Path, config: dict[str, Any], words: str) -> None:
    folder = write_folder(tmp_path / "a", **config)
    with pytest.raises(Refused, match=r"adapter_config\.json") as caught:
        check(folder)
    assert words in str(caught.value)


def nan(weights: dict[str, Any]) -> None:
    weights[B][3, 1] = np.nan


def wide(weights: dict[str, Any]) -> None:
    weights[A] = np.zeros((2, 9), np.float32)


def other_rank(weights: dict[str, Any]) -> None:
    weights[A], weights[B] = np.zeros((3, 8), np.float32), np.zeros((8, 3), np.float32)


def half(weights: dict[str, Any]) -> None:
    del weights[B]


def integers(weights: dict[str, Any]) -> None:
    weights[A] = np.zeros((2, 8), np.int32)


def renamed(suffix: str) -> Any:
    def change(weights: dict[str, Any]) -> None:
        weights[f"{PREFIX}{suffix}"] = np.zeros((2, 8), np.float32)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (nan, f"tensor {B} holds values that are not finite"),
        (wide, f"tensor {A} has shape [2, 9], but config and base make it [2, 8]"),
        (other_rank, f"tensor {A} has shape [3, 8], but config and base make it [2, 8]"),
        (half, f"tensor {A} has no matching lora_B"),
        (integers, f"tensor {A} is I32"),
        (renamed("lm_head.lora_A.weight"), "lm_head is not among the config's target_modules"),
        (renamed("model.norm.weight"), "model.norm is no linear, embedding or head of tiny"),
        (renamed(f"{Q}.lora_E"), "lora_E is of no kind that the engine knows"),
        (renamed(f"{Q}.lora_magnitude_vector"), "is no part of lora"),
        (renamed(f"{Q}.lora_B.bias"), "is no part of lora"),
        (renamed(f"{DOWN}.base_layer.bias"), f"{DOWN} has no bias"),
        (renamed(f"{Q}.weight"), "does not list"),
        (renamed("model.layers.9.self_attn.q_proj.lora_A.weight"), "model.layers.9.self_attn.q_proj is no linear"),
    ],
)
def test_tensors_that_cannot_be_applied(tmp_path: Path, change: Any, words: str) -> None:
    weights = tensors()
    change(weights)
    folder = write_folder(tmp_path / "a", weights=weights)
    with pytest.raises(Refused, match=r"adapter_model\.safetensors") as caught:
        check(folder)
    assert words in str(caught.value)


def test_an_untargeted_module_and_an_empty_file(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="not among the config's target_modules"):
        check(write_folder(tmp_path / "a", target_modules=["q_proj"]))
    with pytest.raises(Refused, match="holds no tensors"):
        check(write_folder(tmp_path / "b", weights={}))


def test_rank_limit(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="has rank 257; at most 256"):
        check(write_folder(tmp_path / "a", weights=tensors({Q: 257}), r=257))


@pytest.mark.parametrize("name", ["adapter_model.bin", "optimizer.pt", "x.pkl", "deep/X.PTH", "state.ckpt", "a.npy"])
def test_pickles_are_refused(tmp_path: Path, name: str) -> None:
    folder = write_folder(tmp_path / "a")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(pickle.dumps([1]))
    with pytest.raises(Refused, match="may run code") as caught:
        check_folder(folder)
    assert name in str(caught.value)


@pytest.mark.parametrize("name", ["model.py", ".hidden.json", "lib.so", "a b.json", "README", "ä.json"])
def test_strange_files_are_refused(tmp_path: Path, name: str) -> None:
    folder = write_folder(tmp_path / "a")
    (folder / name).write_text("x")
    with pytest.raises(Refused) as caught:
        check_folder(folder)
    assert name in str(caught.value)


def test_links_and_pipes_are_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    for make in (lambda path: path.symlink_to(secret), os.mkfifo, lambda path: path.symlink_to(tmp_path)):
        folder = write_folder(tmp_path / "a")
        make(folder / "extra.json")
        with pytest.raises(Refused, match=r"extra\.json is not a regular file"):
            check_folder(folder)
        (folder / "extra.json").unlink()
    (folder / "adapter_config.json").unlink()
    (folder / "adapter_config.json").symlink_to(secret)
    with pytest.raises(Refused, match=r"adapter_config\.json is not a regular file"):
        check_folder(folder)


def test_missing_parts(tmp_path: Path) -> None:
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        folder = write_folder(tmp_path / "a")
        (folder / name).unlink()
        with pytest.raises(Refused, match=f"has no {name}"):
            check_folder(folder)
    with pytest.raises(Invalid, match="is not a directory"):
        check_folder(tmp_path / "absent")


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "a")
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(Refused, match="lies outside the file"):
        check(folder)
    (folder / "adapter_config.json").write_text("{")
    with pytest.raises(Refused, match="not a JSON object"):
        check(folder)


def test_other_safetensors_are_checked_too(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "a")
    shutil.copy(folder / "adapter_model.safetensors", folder / "reference.safetensors")
    check(folder)
    (folder / "reference.safetensors").write_bytes(b"12345678")
    with pytest.raises(Refused, match=r"reference\.safetensors"):
        check(folder)


def test_the_base_is_chosen_by_name(registry: Registry, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "a", base_model_name_or_path="somebody/tiny")
    assert registry.publish("x", folder).manifest.base == PROFILE.identity
    stranger = write_folder(tmp_path / "b", base_model_name_or_path="else/where")
    with pytest.raises(Refused, match="not a registered base"):
        registry.publish("x", stranger)
    identity = msgspec.structs.replace(PROFILE.identity, id="twin", weights_sha256="e" * 64)
    registry.register_base(msgspec.structs.replace(PROFILE, identity=identity))
    with pytest.raises(Refused, match="several registered bases: tiny, twin"):
        registry.publish("x", folder)


def test_no_base_is_registered(directory_store: Any, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no base is registered"):
        Registry(directory_store).publish("x", write_folder(tmp_path / "a"))


def test_config_rules_are_peft_rules(tmp_path: Path) -> None:
    """Ranks and scalings as PEFT itself computes them from the same patterns."""
    other_utils = pytest.importorskip("peft.utils.other")
    folder = write_folder(tmp_path / "a", rank_pattern={"q_proj": 3, "layers.0.self_attn.q_proj": 7, "proj": 9})
    config = read_adapter_config(folder / "adapter_config.json")
    for module in (*PROFILE.linears, "q_proj", "model.xq_proj"):
        key = other_utils.get_pattern_key(config.rank_pattern.keys(), module)
        assert config.rank_of(module) == config.rank_pattern.get(key, config.r)
