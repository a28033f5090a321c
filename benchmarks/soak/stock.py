"""Adapters of every kind and many ranks, written as PEFT writes them and published into a directory store."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from registry.adapters import Registry, Version
from registry.cache import AdapterCache
from registry.store import open_store
from serving.base import Base
from serving.change import weight_of

PREFIX = "base_model.model."
KINDS = ("lora", "lora", "lora", "lora", "rslora", "dora", "ia3", "prompt", "head")
"""Taken in turn: mostly plain LoRA, as in real life."""
MAX_RANK = 16

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Stock:
    """What was published, and a way to fetch it by digest: store -> verified disk cache."""

    versions: Sequence[Version]
    kinds: Sequence[str]
    cache: AdapterCache

    def fetch(self, digest: str) -> Path:
        return self.cache.path(next(version for version in self.versions if version.digest == digest))


def stock_up(base: Base, root: Path, count: int, seed: int, on_published: Callable[[], None]) -> Stock:
    registry = Registry(open_store(f"file://{root}/store"), actor="soak")
    registry.init()
    registry.register_base(base.profile)
    versions, kinds = [], []
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        directory = _write(root / "made" / f"a{number}", base, kind, random.Random(f"{seed}-{number}"))
        versions.append(registry.publish(f"soak-{number}", directory, profile=base.profile))
        kinds.append(kind)
        on_published()
    return Stock(versions, kinds, AdapterCache(root / "cache", registry))


def _write(directory: Path, base: Base, kind: str, rng: random.Random) -> Path:
    config, tensors = _Maker(base, rng).make(kind)
    directory.mkdir(parents=True)
    save_file(tensors, directory / "adapter_model.safetensors")
    common = {"task_type": "CAUSAL_LM", "base_model_name_or_path": base.profile.identity.id}
    (directory / "adapter_config.json").write_text(json.dumps(common | config))
    return directory


class _Maker:
    """Draws one adapter: strong enough to change every answer, weak enough that it does not overflow."""

    def __init__(self, base: Base, rng: random.Random) -> None:
        self._base, self._rng = base, rng
        self._generator = torch.Generator().manual_seed(rng.getrandbits(63))

    def make(self, kind: str) -> tuple[dict[str, Any], Tensors]:
        match kind:
            case "ia3":
                return self._ia3()
            case "prompt":
                return self._prompt()
            case "head":
                return self._head()
            case _:
                return self._lora(kind)

    def _lora(self, kind: str) -> tuple[dict[str, Any], Tensors]:
        base = self._base
        leaves = sorted({name.rpartition(".")[2] for name in base.profile.linears})
        targets = sorted(self._rng.sample(leaves, self._rng.randint(1, len(leaves))))
        rank = self._rng.choice([1, 2, 4, 8, MAX_RANK])
        tensors: Tensors = {}
        for name, shape in base.profile.linears.items():
            if name.rpartition(".")[2] in targets:
                tensors |= self._pair(name, shape, rank)
        if kind == "dora":
            for site in base.sites:
                for sibling, name in enumerate(site.names):
                    if name.rpartition(".")[2] in targets:
                        norms = torch.linalg.vector_norm(weight_of(site, sibling).float(), dim=1)
                        tensors[f"{PREFIX}{name}.lora_magnitude_vector"] = norms * (1 + 0.1 * self._draw(len(norms)))
        config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": targets, "bias": "none"}
        return config | {"use_dora": kind == "dora", "use_rslora": kind == "rslora"}, tensors

    def _head(self) -> tuple[dict[str, Any], Tensors]:
        ((name, shape),) = self._base.profile.heads.items()
        rank = self._rng.choice([1, 2, 4])
        config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": [name], "bias": "none"}
        return config, self._pair(name, shape, rank)

    def _ia3(self) -> tuple[dict[str, Any], Tensors]:
        targets, feedforward = ["k_proj", "v_proj", "down_proj"], ["down_proj"]
        tensors: Tensors = {}
        for name, (out_features, in_features) in self._base.profile.linears.items():
            leaf = name.rpartition(".")[2]
            if leaf in targets:
                shape = (1, in_features) if leaf in feedforward else (out_features, 1)
                tensors[f"{PREFIX}{name}.ia3_l"] = 1 + 0.3 * self._draw(*shape)
        return {"peft_type": "IA3", "target_modules": targets, "feedforward_modules": feedforward}, tensors

    def _prompt(self) -> tuple[dict[str, Any], Tensors]:
        count, width = self._rng.randint(1, 12), self._base.profile.hidden_size
        embeddings = self._base.input_embeddings.float().std() * self._draw(count, width)
        config = {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": count, "token_dim": width}
        return config, {"prompt_embeddings": embeddings}

    def _pair(self, name: str, shape: tuple[int, int], rank: int) -> Tensors:
        out_features, in_features = shape
        return {
            f"{PREFIX}{name}.lora_A.weight": self._draw(rank, in_features) / in_features**0.5,
            f"{PREFIX}{name}.lora_B.weight": 0.3 * self._draw(out_features, rank) / rank**0.5,
        }

    def _draw(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._generator)
