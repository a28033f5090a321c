"""One step's computation: through the native stack where the kernel can walk it, else through the module tree.

    chunks -> embedding -> layers: kernel, or module tree with packed adapters -> head -> logits

Both ways share the cache, the embedding and the head. Knows no request, no sampling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from serving import attention
from serving.adapter import LoadedAdapter
from serving.base import Base
from serving.kv import KVCache
from serving.linear import Turn
from serving.pack import Pack
from serving.plan import Roster, arrange, build, identify
from serving.regions import Region
from serving.scheduler import Chunk, Move
from serving.stack import NativeStack
from serving.tree import install

Arranged: TypeAlias = list[tuple[Chunk, LoadedAdapter | None]]


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
        self._turn = Turn(Pack(base.sites))
        self._cache = KVCache(
            num_layers=config.num_hidden_layers,
            kv_heads=self._kv_heads,
            head_dim=head_dim,
            total=kv_tokens,
            dtype=base.dtype,
            device=base.device,
        )
        self._tree = base.module_tree(attention.NAME)
        positions = min(kv_tokens, base.profile.context_length)
        self._stack = NativeStack.make(base, self._tree, self._cache, positions)
        install(self._tree, base, self._turn)
        self._last_hidden: Tensor | None = None
        self._tree.get_decoder().register_forward_hook(self._keep_hidden)

    def __call__(
        self, chunks: Sequence[Chunk], adapters: Sequence[LoadedAdapter | None], logits_from: Sequence[int]
    ) -> Output:
        """Compute the chunks. `logits_from[i]`: chunk i's logits are wanted from this position (its stop: none) on."""
        wanted = dict(zip(chunks, logits_from, strict=True))
        arranged = arrange(chunks, adapters)
        if self._stack is not None and self._stack.can_apply(adapters):
            return self._through_stack(self._stack, arranged, wanted)
        return self._through_tree(arranged, wanted)

    def move(self, moves: Sequence[Move]) -> None:
        self._cache.move(moves)

    def scrub(self, region: Region) -> None:
        self._cache.scrub(region)

    def _through_stack(self, stack: NativeStack, arranged: Arranged, wanted: Mapping[Chunk, int]) -> Output:
        roster = self._turn.roster = identify(arranged, wanted, self._base.device)
        try:
            hidden = self._tree.get_input_embeddings()(roster.token_ids)[0]
            stack(roster.chunks, roster.adapters, hidden)
            kept = hidden if len(roster.kept) == len(hidden) else hidden.index_select(0, roster.kept)
            return _output(roster, wanted, self._tree.get_output_embeddings()(kept), hidden)
        finally:
            self._turn.roster = None

    def _through_tree(self, arranged: Arranged, wanted: Mapping[Chunk, int]) -> Output:
        slots = self._turn.pack.seat(
            adapter for chunk, adapter in arranged if adapter is not None and chunk.num_tokens == 1
        )
        arranged = _by_slot(arranged, slots)
        plan = build(
            arranged,
            wanted,
            slots,
            kv_heads=self._kv_heads,
            dtype=self._base.dtype,
            device=self._base.device,
        )
        self._turn.plan = self._turn.roster = plan
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
            self._turn.plan = self._turn.roster = None
        assert self._last_hidden is not None
        return _output(plan, wanted, output.logits[0], self._last_hidden[0])

    def _keep_hidden(self, _module: Any, _inputs: Any, output: Any) -> None:
        self._last_hidden = output.last_hidden_state


def _by_slot(arranged: Arranged, slots: Mapping[LoadedAdapter, int]) -> Arranged:
    last = len(slots)
    return sorted(arranged, key=lambda pair: (pair[0].num_tokens > 1, slots.get(pair[1], last) if pair[1] else last))


def _output(roster: Roster, wanted: Mapping[Chunk, int], logits: Tensor, hidden: Tensor) -> Output:
    sizes = [chunk.stop - wanted[chunk] for chunk in roster.chunks]
    lengths = [chunk.num_tokens for chunk in roster.chunks]
    return Output(roster.chunks, torch.split(logits, sizes), torch.split(hidden, lengths))
