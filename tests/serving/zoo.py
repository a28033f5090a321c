"""Adapters of one base beside what PEFT alone says of each, and a walk of rows through the forward pass."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from serving.adapter import LoadedAdapter
from serving.base import Base
from serving.forward import Forward
from serving.regions import Regions
from serving.row import Row
from serving.scheduler import Chunk, Scheduler

LOW_RANK: tuple[dict[str, Any], ...] = (
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

QV = ("q_proj", "v_proj")
OTHERS: tuple[dict[str, Any], ...] = (
    {"use_dora": True},
    {
        "rank": 2,
        "use_dora": True,
        "use_rslora": True,
        "targets": ("k_proj", "down_proj"),
        "rank_pattern": {"k_proj": 5},
    },
    {"lora_bias": True},
    {"targets": ("embed_tokens", "q_proj")},
    {"targets": ("embed_tokens", "lm_head"), "use_dora": True, "save_embeddings": True},
    {"targets": ("lm_head",), "rank": 3},
    {"targets": QV, "modules_to_save": ["lm_head"]},
    {"targets": QV, "modules_to_save": ["embed_tokens", "lm_head"]},
    {"targets": QV, "modules_to_save": ["k_proj", "down_proj"]},
    {"targets": QV, "trainable_token_indices": [7, 3, 200]},
    {"targets": QV, "trainable_token_indices": {"embed_tokens": [9, 8], "lm_head": [5, 6, 7]}},
    {"kind": "ia3", "targets": ("k_proj", "v_proj", "down_proj"), "feedforward_modules": ["down_proj"]},
    {"kind": "ia3", "targets": ("q_proj", "up_proj", "lm_head"), "feedforward_modules": ["up_proj", "lm_head"]},
    {"kind": "ia3", "targets": ("lm_head", "o_proj"), "feedforward_modules": [], "modules_to_save": ["v_proj"]},
    {"kind": "prompt", "num_virtual_tokens": 1},
    {"kind": "prompt", "num_virtual_tokens": 6},
)
"""Every kind that is more than a low-rank product on decoder linears."""

KINDS = LOW_RANK + OTHERS


@dataclass(eq=False, repr=False)
class Zoo:
    """`adapters[i]` and the directory it came from; index None is the bare base."""

    base: Base
    directories: list[Path]
    adapters: list[LoadedAdapter]
    _models: dict[int | None, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<{len(self.adapters)} adapters>"

    def adapter(self, index: int | None) -> LoadedAdapter | None:
        return None if index is None else self.adapters[index]

    def logits(self, index: int | None, tokens: Sequence[int]) -> torch.Tensor:
        """(tokens, vocabulary) of transformers and PEFT alone, without our linears, attention or cache.

        Of a soft prompt, whose tokens begin with its virtual ones, those after them.
        """
        with torch.no_grad():
            ids = torch.tensor([[token for token in tokens if token >= 0]])
            logits: torch.Tensor = self.model(index)(ids).logits[0]
        return logits[-len(tokens) :]

    def greedy(self, index: int | None, prompt: tuple[int, ...], answer: tuple[int, ...]) -> tuple[int, ...]:
        """What greedy decoding says after the prompt and each beginning of `answer`: equal to it if it is greedy."""
        logits = self.logits(index, [*prompt, *answer[:-1]])
        return tuple(logits[len(prompt) - 1 :].argmax(dim=-1).tolist())

    def model(self, index: int | None) -> Any:
        """On a copy of the base's weights: PEFT writes trained biases and saved embeddings over them."""
        if index not in self._models:
            tree = copy.deepcopy(self.base.module_tree("eager"))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = tree if index is None else PeftModel.from_pretrained(tree, self.directories[index])
            self._models[index] = model.eval()
        return self._models[index]


def walk(forward: Forward, zoo: Zoo, rows: Sequence[tuple[int | None, Sequence[int]]], extra: int) -> list[Any]:
    """Rows of (adapter, prompt) through chunked prefill and `extra` - 1 greedy decodes together.

    Returns of each row its tokens and the logits of all but the last: (tokens - 1, vocabulary).
    """
    planner = Scheduler(Regions(8192), max_batch=len(rows), prefill_tokens=150)
    who: dict[Row, int | None] = {}
    for index, prompt in rows:
        adapter = zoo.adapter(index)
        tokens = [*(-1 - place for place in range(adapter.num_virtual if adapter else 0)), *prompt]
        row = Row(tokens, len(tokens) + extra)
        who[row] = index
        planner.add(row)
    seen: dict[Row, list[torch.Tensor]] = {row: [] for row in who}
    with torch.inference_mode():
        while planner.has_work:
            step = planner.schedule()
            forward.move(step.moves)
            adapters = [zoo.adapter(who[chunk.row]) for chunk in step.chunks]
            output = forward(step.chunks, adapters, [chunk.start for chunk in step.chunks])
            for chunk, logits in zip(output.chunks, output.logits, strict=True):
                seen[chunk.row].append(logits)
                _advance(planner, chunk, logits)
    return [(index, row.tokens, torch.cat(seen[row])) for row, index in who.items()]


def _advance(planner: Scheduler, chunk: Chunk, logits: torch.Tensor) -> None:
    samples = chunk.samples
    planner.advance(chunk)
    if samples:
        chunk.row.tokens.append(int(logits[-1].argmax()))
        if len(chunk.row.tokens) >= chunk.row.max_length:
            planner.remove(chunk.row)
