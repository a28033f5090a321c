"""Other architectures than Llama: each with every kind of adapter that fits it, in one batch, against PEFT alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from registry.errors import Invalid
from registry.settings import Settings
from registry.validation import check_adapter, check_folder
from serving.adapter import LoadedAdapter
from serving.base import Base, load_base
from serving.forward import Forward
from tests.conftest import write_adapter

from .zoo import Zoo, walk

SIZES: dict[str, Any] = {
    "vocab_size": 259,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
}
ALTERNATING = {"sliding_window": 7, "layer_types": ["sliding_attention", "full_attention"]}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "Llama": {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
    "Qwen2": {"tie_word_embeddings": True},
    "Qwen2-window": {"use_sliding_window": True, **ALTERNATING},
    "Qwen3": {"tie_word_embeddings": False},
    "Mistral": {"sliding_window": 9},
    "Gemma": {"hidden_act": "gelu_pytorch_tanh"},
    "Gemma2": {
        **ALTERNATING,
        "query_pre_attn_scalar": 8,
        "attn_logit_softcapping": 3.0,
        "final_logit_softcapping": 5.0,
    },
    "Gemma3": {**ALTERNATING, "query_pre_attn_scalar": 8},
    "Phi": {"partial_rotary_factor": 0.5, "resid_pdrop": 0.0},
    "Phi3": {},
    "Olmo2": {},
    "GPT2": {"n_embd": 48, "n_layer": 2, "n_head": 6, "n_positions": 512},
    "GPTNeoX": {"rotary_pct": 0.25},
    "OPT": {"ffn_dim": 96, "word_embed_proj_dim": 48, "do_layer_norm_before": True},
    "Cohere2": {"sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"], "logit_scale": 0.5},
    "SmolLM3": {},
    "Granite": {"embedding_multiplier": 3.0, "logits_scaling": 2.0, "residual_multiplier": 0.5},
    "Starcoder2": {"sliding_window": 8, "use_bias": True, "residual_dropout": 0.0, "embedding_dropout": 0.0},
    "Mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
}
KEY_AND_DOWN = {
    "Phi": ("k_proj", "fc2"),
    "Phi3": ("qkv_proj", "down_proj"),
    "GPT2": ("c_attn", "mlp.c_proj"),
    "GPTNeoX": ("query_key_value", "dense_4h_to_h"),
    "OPT": ("k_proj", "fc2"),
    "Starcoder2": ("k_proj", "c_proj"),
    "Mixtral": ("k_proj", "o_proj"),
}
"""An attention projection, and a linear that reads what an activation gave."""


def kinds(architecture: str, base: Base) -> list[dict[str, Any]]:
    key, down = KEY_AND_DOWN.get(architecture.partition("-")[0], ("k_proj", "down_proj"))
    linears = sorted({name.rpartition(".")[2] for name in base.profile.linears})
    embedding, head = (name.rpartition(".")[2] for name in (*base.profile.embeddings, *base.profile.heads))
    chosen: list[dict[str, Any]] = [
        {"targets": linears},
        {"targets": linears, "use_dora": True, "rank": 3, "alpha_pattern": {down: 20}},
        {"targets": (key,), "bias": "lora_only"},
        {"targets": (down,), "lora_bias": True, "use_rslora": True},
        {"targets": (embedding, key), "save_embeddings": True},
        {"targets": (embedding, head), "use_dora": True},
        {"targets": (key,), "modules_to_save": [head]},
        {"targets": (key,), "modules_to_save": [embedding, down]},
        {"kind": "ia3", "targets": (key, down), "feedforward_modules": [down]},
        {"kind": "ia3", "targets": (key, head), "feedforward_modules": []},
        {"kind": "prompt", "num_virtual_tokens": 3},
    ]
    if architecture != "Phi":  # its head has a bias, which PEFT's trained tokens would leave out
        chosen.append({"targets": (key,), "trainable_token_indices": [5, 30, 6]})
    if architecture in ("Llama", "Qwen2"):  # no norm of theirs has a bias, which could not be applied
        chosen.append({"targets": (key,), "bias": "all"})
    return chosen


UNFIT: list[tuple[str, dict[str, Any], str]] = [
    ("Llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, "dynamic rotary"),
    ("StableLm", {}, "cannot be replaced"),
    ("Bloom", {"n_head": 6, "n_layer": 2}, "cannot be replaced"),
    ("Mamba", {"state_size": 4}, "cannot be replaced"),
    ("GptOss", {"num_local_experts": 2}, "sinks"),
    ("Gemma3", {"use_bidirectional_attention": True, **ALTERNATING}, "not causal"),
]


def make_base(tokenizer: Path, directory: Path, architecture: str, **changes: Any) -> Base:
    name = architecture.partition("-")[0]
    suffix = "ForCausalLM" if name != "GPT2" else "LMHeadModel"
    config_name = f"{name}TextConfig" if name == "Gemma3" else f"{name}Config"
    sizes = {**SIZES, **ARCHITECTURES.get(architecture, {}), **changes}
    if name in ("GPT2", "GPTNeoX", "OPT"):  # as many key heads as heads: their configs do not know the word
        del sizes["num_key_value_heads"], sizes["head_dim"]
    torch.manual_seed(11)
    tree = getattr(transformers, name + suffix)(getattr(transformers, config_name)(**sizes))
    with torch.no_grad():  # biases and norms begin at 0 and 1, which would hide mistakes in them
        for parameter in tree.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn(parameter.shape) * 0.2)
    tree.save_pretrained(directory)
    for part in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(tokenizer / part, directory / part)
    return load_base(Settings(base=str(directory), dtype="float32", threads=1))


@pytest.fixture
def build(tiny_base_dir: Path, tmp_path: Path) -> Callable[..., Base]:
    return lambda architecture, **changes: make_base(tiny_base_dir, tmp_path / "base", architecture, **changes)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_kind_on_every_architecture(build: Callable[..., Base], tmp_path: Path, architecture: str) -> None:
    base = build(architecture)
    directories = []
    for seed, kind in enumerate(kinds(architecture, base)):
        directories.append(tmp_path / str(seed))
        write_adapter(base, directories[-1], seed=seed, std=0.1, **kind)
        check_adapter(directories[-1], check_folder(directories[-1]), base.profile)
    zoo = Zoo(base, directories, [LoadedAdapter.from_directory(path, base) for path in directories])
    choices = [None, *range(len(directories)), None, *range(len(directories))]
    prompts = [tuple(3 + (31 * seed + 7 * place) % 250 for place in range(1 + 5 * seed % 41)) for seed in range(30)]
    rows = [(index, prompts[number]) for number, index in enumerate(choices)]
    for index, tokens, logits in walk(Forward(base, 8192), zoo, rows, extra=6):
        expected = zoo.logits(index, tokens[:-1])
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0, msg=lambda text, i=index: f"{i}: {text}")
    base.check_integrity()


@pytest.mark.parametrize(("architecture", "changes", "words"), UNFIT)
def test_what_could_not_be_exact_is_refused_at_load(
    build: Callable[..., Base], architecture: str, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(Invalid, match=words):
        build(architecture, **changes)
