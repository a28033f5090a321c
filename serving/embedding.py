"""The first step of a pass: every token's embedding, each row with its own adapter's. Knows no layer.

Where no adapter of the pass touches embeddings, this is the base's module and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

import torch
from torch import Tensor, nn
from torch.nn import functional

from serving.adapter import EmbeddingDelta, LoadedAdapter
from serving.linear import Turn
from serving.plan import Roster


def embed(module: Callable[[Tensor], Tensor], roster: Roster) -> Tensor:
    """(1, tokens, hidden_size): the base's embeddings, each adapter's changes to them, and its virtual tokens."""
    embedded = module(roster.token_ids)
    placed = zip(roster.chunks, roster.starts, roster.adapters, strict=True)
    for adapter, group in groupby(placed, key=lambda item: item[2]):
        if adapter is None or (adapter.embedding is None and adapter.virtual is None):
            continue
        members = list(group)
        first, (last, last_start, _) = members[0][1], members[-1]
        stretch = slice(first, last_start + last.num_tokens)
        if adapter.embedding is not None:
            _change(adapter.embedding, roster.token_ids[0, stretch], embedded[0, stretch])
        if adapter.virtual is not None:
            tokens = [token for chunk, _, _ in members for token in chunk.row.tokens[chunk.start : chunk.stop]]
            _overwrite(adapter, tokens, embedded[0, stretch])
    return embedded


class Embed(nn.Module):
    """Stands in the module tree where the input embedding stood."""

    def __init__(self, base: nn.Module, turn: Turn) -> None:
        super().__init__()
        self.base = base
        self._turn = turn

    def forward(self, token_ids: Tensor) -> Tensor:
        roster = self._turn.roster
        embedded: Tensor = self.base(token_ids) if roster is None else embed(self.base, roster)
        return embedded


def _change(delta: EmbeddingDelta, ids: Tensor, embedded: Tensor) -> None:
    """ids: (tokens,); embedded: (tokens, hidden_size), the base's, changed in place."""
    changed = embedded if delta.replacement is None else functional.embedding(ids, delta.replacement)
    if delta.gain is not None:
        changed = changed * delta.gain
    if delta.a is not None and delta.b is not None:
        changed = changed + torch.mm(functional.embedding(ids, delta.a), delta.b)
    if delta.tokens is not None and delta.rows is not None:
        places = torch.searchsorted(delta.tokens, ids).clamp_(max=len(delta.tokens) - 1)
        is_listed = delta.tokens.index_select(0, places) == ids
        changed = changed + delta.rows.index_select(0, places) * is_listed[:, None]
    embedded.copy_(changed)


def _overwrite(adapter: LoadedAdapter, tokens: list[int], embedded: Tensor) -> None:
    """Token -1 - i is the adapter's virtual token i."""
    assert adapter.virtual is not None
    places = [place for place, token in enumerate(tokens) if token < 0]
    if places:
        rows = torch.tensor([-1 - tokens[place] for place in places], device=embedded.device)
        target = torch.tensor(places, device=embedded.device)
        embedded.index_copy_(0, target, adapter.virtual.index_select(0, rows))
