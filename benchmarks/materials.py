"""The base and the adapters that every contender gets: a directory of safetensors, and random PEFT folders."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from registry.settings import Settings, load_settings
from serving.source import locate

BASE = "smollm2-135m"
RANK = 16
STD = 0.02
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
WORK = Path(__file__).parent / ".work"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Materials:
    base: Path
    config: dict[str, Any]
    """The base's config.json."""
    adapters: tuple[Path, ...]
    work: Path
    """What is made once from this base is kept here."""
    threads: int


def settings(threads: int, **more: Any) -> Settings:
    """Of our own engine: the defaults, but for precision, threads and what a measurement needs."""
    return load_settings({"base": BASE, "dtype": "bfloat16", "threads": threads, **more})


def prepare(count: int, say: Say) -> Materials:
    """Find or make everything."""
    threads = len(os.sched_getaffinity(0))
    source = locate(BASE, settings(threads).cache_path(), say)
    work = WORK / source.weights_sha256[:16]
    adapters = tuple(_adapter(source.directory, work / "adapters" / f"a{seed}", seed) for seed in range(count))
    config: dict[str, Any] = json.loads((source.directory / "config.json").read_text(encoding="utf-8"))
    return Materials(source.directory, config, adapters, work, threads)


def _adapter(base: Path, directory: Path, seed: int) -> Path:
    """Rank 16 on every linear, bfloat16, about 10 MB; the same bytes for the same seed."""
    if not (directory / "adapter_config.json").is_file():
        directory.mkdir(parents=True, exist_ok=True)
        save_file(_random(base, seed), directory / "adapter_model.safetensors")
        config = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": BASE,
            "r": RANK,
            "lora_alpha": RANK,
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": False,
            "inference_mode": True,
            "target_modules": list(LINEARS),
        }
        (directory / "adapter_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    return directory


def _random(base: Path, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return (torch.randn(shape, generator=generator) * STD).to(torch.bfloat16)

    tensors = {}
    for module, (out_features, in_features) in _linears(base).items():
        tensors[f"base_model.model.{module}.lora_A.weight"] = draw(RANK, in_features)
        tensors[f"base_model.model.{module}.lora_B.weight"] = draw(out_features, RANK)
    return tensors


def _linears(base: Path) -> dict[str, tuple[int, int]]:
    """(out, in) of every linear that takes an adapter, in name order."""
    shapes = {}
    for path in sorted(base.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118
                module = key.removesuffix(".weight")
                if module.rpartition(".")[2] in LINEARS:
                    out_features, in_features = file.get_slice(key).get_shape()
                    shapes[module] = (out_features, in_features)
    return dict(sorted(shapes.items()))
