"""Adapters of every LoRA kind on the tiny base, and what PEFT alone says about them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from serving.adapter import LoadedAdapter
from serving.base import Base

KINDS: tuple[dict[str, Any], ...] = (
    {"rank": 4},
    {"rank": 1},
    {"rank": 16, "alpha": 32},
    {"rank": 8, "use_rslora": True},
    {"rank": 3, "targets": ("q_proj", "v_proj")},
    {"rank": 5, "targets": ("down_proj",)},
    {"rank": 4, "rank_pattern": {"q_proj": 12, r"layers\.0\.mlp\.up_proj": 2}, "alpha_pattern": {"k_proj": 20}},
    {"rank": 2, "targets": ("k_proj", "o_proj", "gate_proj"), "alpha_pattern": {r".*layers\.1\..*": 3}},
    {"rank": 6, "layers_to_transform": [1], "use_rslora": True, "rank_pattern": {"v_proj": 9}},
    {"rank": 7, "targets": r".*layers\.2\.(self_attn|mlp)\.(v|o|up)_proj"},
)
"""Mixed ranks, patterns, rank-stabilised scaling, target subsets, single layers, regular expressions."""


@dataclass(eq=False)
class Zoo:
    """`adapters[i]` and the directory it came from; index None is the bare base."""

    base: Base
    directories: list[Path]
    adapters: list[LoadedAdapter]
    _models: dict[int | None, Any] = field(default_factory=dict)

    def adapter(self, index: int | None) -> LoadedAdapter | None:
        return None if index is None else self.adapters[index]

    def logits(self, index: int | None, tokens: list[int]) -> torch.Tensor:
        """(tokens, vocabulary) of transformers and PEFT alone, without our linears, attention or cache."""
        if index not in self._models:
            tree = self.base.module_tree("eager")
            self._models[index] = (
                tree if index is None else PeftModel.from_pretrained(tree, self.directories[index]).eval()
            )
        with torch.no_grad():
            logits: torch.Tensor = self._models[index](torch.tensor([tokens])).logits[0]
        return logits

    def greedy(self, index: int | None, prompt: tuple[int, ...], answer: tuple[int, ...]) -> tuple[int, ...]:
        """What greedy decoding says after the prompt and each beginning of `answer`: equal to it if it is greedy."""
        logits = self.logits(index, [*prompt, *answer[:-1]])
        return tuple(logits[len(prompt) - 1 :].argmax(dim=-1).tolist())


@pytest.fixture(scope="session")
def zoo(tiny_base: Base, make_adapter: Any) -> Zoo:
    directories = [make_adapter(seed=seed, **kind) for seed, kind in enumerate(KINDS)]
    return Zoo(tiny_base, directories, [LoadedAdapter.from_directory(path, tiny_base) for path in directories])
