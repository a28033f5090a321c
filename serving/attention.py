"""Attention over our own KV cache, registered with transformers under the name `lorimer`.

The query heads of one KV group are folded into rows, so grouped-query attention is two plain batched products. (On CPU
in bfloat16 `scaled_dot_product_attention(enable_gqa=True)` with one query row is 6 to 17 times slower.)
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from serving.kv import KVCache
from serving.plan import Plan, Run, Span

NAME = "lorimer"
Cached: TypeAlias = tuple[Tensor, Tensor]


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _mask: Tensor | None,
    *,
    scaling: float,
    plan: Plan,
    cache: KVCache,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """query: (1, heads, tokens, D); key, value: (1, kv_heads, tokens, D) -> (1, tokens, heads, D). Fills the cache.

    Tokens see the last `sliding_window` positions, their own included; scores stay within `softcap` (Gemma 2).
    """
    layer: int = module.layer_idx  # type: ignore[assignment]
    cache.write(layer, plan.write_index, key[0], value[0])
    queries = query[0].transpose(0, 1)
    out = queries.new_empty(queries.shape)
    view = View(scaling, sliding_window, softcap)
    for run in plan.runs:
        _decode(run, queries, cache.neighbours(layer, run.first, run.count, run.first.capacity), view, out)
    for span in plan.spans:
        _prefill(span, queries, cache.neighbours(layer, span.region, 1, span.length), view, out)
    return out[None], None


class View(NamedTuple):
    """How one layer looks back."""

    scaling: float
    window: int | None
    softcap: float | None


def _decode(run: Run, queries: Tensor, cached: Cached, view: View, out: Tensor) -> None:
    """One query per row. queries: (tokens, heads, D); cached keys and values: (count * kv_heads, capacity, D)."""
    keys, values = cached
    _, heads, width = queries.shape
    rows = queries if run.rows is None else queries.index_select(0, run.rows)
    group = run.count * heads // keys.shape[0]
    bias = run.within(view.window)
    mixed = _mix(rows.reshape(-1, group, width), keys, values, bias, view).view(run.count, heads, width)
    if run.rows is None:
        out.copy_(mixed)
    else:
        out.index_copy_(0, run.rows, mixed)


def _prefill(span: Span, queries: Tensor, cached: Cached, view: View, out: Tensor) -> None:
    """A chunk of one row. queries: (tokens, heads, D); cached keys and values: (kv_heads, length, D)."""
    keys, values = cached
    tokens, (_, heads, width) = span.stop - span.start, queries.shape
    kv_heads, group = keys.shape[0], heads // keys.shape[0]
    rows = queries[span.start : span.stop].view(tokens, kv_heads, group, width).permute(1, 2, 0, 3)
    bias = span.within(view.window).expand(group, tokens, span.length).reshape(1, group * tokens, span.length)
    mixed = _mix(rows.reshape(kv_heads, group * tokens, width), keys, values, bias, view)
    out[span.start : span.stop] = (
        mixed.view(kv_heads, group, tokens, width).permute(2, 0, 1, 3).reshape(tokens, heads, width)
    )


def _mix(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor, view: View) -> Tensor:
    """queries: (n, rows, D) against keys, values: (n, length, D); bias broadcasts to (n, rows, length)."""
    if view.softcap is None:
        scores = torch.baddbmm(bias, queries, keys.transpose(1, 2), alpha=view.scaling)
    else:
        raw = torch.bmm(queries, keys.transpose(1, 2)) * view.scaling
        scores = torch.tanh(raw / view.softcap) * view.softcap + bias
    return torch.bmm(torch.softmax(scores, dim=-1), values)


AttentionInterface.register(NAME, attend)
