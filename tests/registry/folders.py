"""Adapter folders as PEFT writes them, made with numpy: small, valid unless told otherwise."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from registry.manifest import BaseIdentity, BaseProfile

PREFIX = "base_model.model."
Q, DOWN = "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"
PROFILE = BaseProfile(
    identity=BaseIdentity(
        id="tiny", weights_sha256="a" * 64, tokenizer_sha256="b" * 64, template_sha256="c" * 64, shape_sha256="d" * 64
    ),
    names=("tiny", "somebody/tiny"),
    architecture="LlamaForCausalLM",
    hidden_size=8,
    num_layers=2,
    vocab_size=32,
    context_length=64,
    linears={Q: (8, 8), DOWN: (8, 12), "model.layers.1.self_attn.q_proj": (8, 8)},
    transposed=(DOWN,),
    biased=(Q,),
    embeddings={"model.embed_tokens": (32, 8)},
    heads={"lm_head": (32, 8)},
)


def tensors(ranks: Mapping[str, int] | None = None, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    made: dict[str, Any] = {}
    for module, rank in (ranks or {Q: 2, DOWN: 2}).items():
        out_features, in_features = PROFILE.linears[module]
        made[f"{PREFIX}{module}.lora_A.weight"] = rng.normal(size=(rank, in_features)).astype(np.float32)
        made[f"{PREFIX}{module}.lora_B.weight"] = rng.normal(size=(out_features, rank)).astype(np.float32)
    return made


def write_folder(folder: Path, *, seed: int = 0, weights: Mapping[str, Any] | None = None, **config: Any) -> Path:
    """`config` overrides keys of adapter_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "tiny",
        "r": 2,
        "lora_alpha": 4,
        "target_modules": ["q_proj", "down_proj"],
        "bias": "none",
        "modules_to_save": None,
        "lora_dropout": 0.1,
    }
    (folder / "adapter_config.json").write_text(json.dumps(values | config))
    save_file(dict(tensors(seed=seed) if weights is None else weights), folder / "adapter_model.safetensors")
    return folder
