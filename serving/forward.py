"""One step's forward pass: the module tree over our linears, attention and cache. Knows no request, no sampling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from serving import attention, linear
from serving.adapter import LoadedAdapter
from serving.base import Base
from serving.kv import KVCache
from serving.pack import Pack
from serving.plan import Plan, arrange, build
from serving.regions import Region
from serving.scheduler import Chunk, Move


@dataclass(frozen=True, eq=False)
class Output:
    """What a step computed, chunk by chunk."""

    chunks: tuple[Chunk, ...]
    logits: tuple[Tensor, ...]
    """(tokens asked for, vocabulary)"""
    hidden: tuple[Tensor, ...]
    """(tokens, hidden_size), after the last layer"""


class Forward:
    """Owns the engine's module tree, its KV tensors and the packed adapters."""

    def __init__(self, base: Base, kv_tokens: int) -> None:
        config = base.config
        heads = config.num_attention_heads
        self._kv_heads: int = getattr(config, "num_key_value_heads", None) or heads
        head_dim: int = getattr(config, "head_dim", None) or config.hidden_size // heads
        self._base = base
        self._turn = linear.Turn(Pack(base.sites))
        self._cache = KVCache(
            num_layers=config.num_hidden_layers,
            kv_heads=self._kv_heads,
            head_dim=head_dim,
            total=kv_tokens,
            dtype=base.dtype,
            device=base.device,
        )
        self._tree = base.module_tree(attention.NAME)
        linear.install(self._tree, base.sites, self._turn)
        self._last_hidden: Tensor | None = None
        self._tree.base_model.register_forward_hook(self._keep_hidden)

    def __call__(
        self, chunks: Sequence[Chunk], adapters: Sequence[LoadedAdapter | None], logits_from: Sequence[int]
    ) -> Output:
        """Compute the chunks. `logits_from[i]`: chunk i's logits are wanted from this position (its stop: none) on."""
        wanted = dict(zip(chunks, logits_from, strict=True))
        plan = self._plan(chunks, adapters, wanted)
        logits = self._run(plan)
        assert self._last_hidden is not None
        sizes = [chunk.stop - wanted[chunk] for chunk in plan.chunks]
        lengths = [chunk.num_tokens for chunk in plan.chunks]
        return Output(plan.chunks, torch.split(logits, sizes), torch.split(self._last_hidden[0], lengths))

    def move(self, moves: Sequence[Move]) -> None:
        self._cache.move(moves)

    def scrub(self, region: Region) -> None:
        self._cache.scrub(region)

    def _plan(
        self, chunks: Sequence[Chunk], adapters: Sequence[LoadedAdapter | None], logits_from: Mapping[Chunk, int]
    ) -> Plan:
        paired = zip(chunks, adapters, strict=True)
        slots = self._turn.pack.seat(a for chunk, a in paired if a is not None and chunk.num_tokens == 1)
        arranged = arrange(chunks, adapters)
        last = len(slots)
        arranged.sort(key=lambda pair: (pair[0].num_tokens > 1, slots.get(pair[1], last) if pair[1] else last))
        return build(arranged, logits_from, slots, self._kv_heads, self._base.dtype, self._base.device)

    def _run(self, plan: Plan) -> Tensor:
        self._turn.plan = plan
        try:
            output = self._tree(
                input_ids=plan.token_ids,
                position_ids=plan.positions,
                use_cache=False,
                logits_to_keep=plan.kept,
                plan=plan,
                cache=self._cache,
            )
        finally:
            self._turn.plan = None
        logits: Tensor = output.logits
        return logits[0]

    def _keep_hidden(self, _module: Any, _inputs: Any, output: Any) -> None:
        self._last_hidden = output.last_hidden_state
