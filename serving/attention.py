"""Attention over our own KV cache, registered with transformers under the name `lorimer`.

The query heads of one KV group are folded into rows, so grouped-query attention is two plain batched products. (On CPU
in bfloat16 `scaled_dot_product_attention(enable_gqa=True)` with one query row is 6 to 17 times slower.)
"""

from __future__ import annotations

from typing import Any, TypeAlias

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
    **_: Any,
) -> tuple[Tensor, None]:
    """query: (1, heads, tokens, D); key, value: (1, kv_heads, tokens, D) -> (1, tokens, heads, D). Fills the cache."""
    layer: int = module.layer_idx  # type: ignore[assignment]
    cache.write(layer, plan.write_index, key[0], value[0])
    queries = query[0].transpose(0, 1)
    out = queries.new_empty(queries.shape)
    for run in plan.runs:
        _decode(run, queries, cache.neighbours(layer, run.first, run.count, run.length), scaling, out)
    for span in plan.spans:
        _prefill(span, queries, cache.neighbours(layer, span.region, 1, span.length), scaling, out)
    return out[None], None


def _decode(run: Run, queries: Tensor, cached: Cached, scaling: float, out: Tensor) -> None:
    """One query per row. queries: (tokens, heads, D); cached keys and values: (count * kv_heads, length, D)."""
    keys, values = cached
    _, heads, width = queries.shape
    kv_heads = keys.shape[0] // run.count
    rows = queries.index_select(0, run.rows).view(run.count * kv_heads, heads // kv_heads, width)
    bias = run.bias.expand(run.count, kv_heads, run.length).reshape(run.count * kv_heads, 1, run.length)
    mixed = _mix(rows, keys, values, bias, scaling)
    out.index_copy_(0, run.rows, mixed.view(run.count, heads, width))


def _prefill(span: Span, queries: Tensor, cached: Cached, scaling: float, out: Tensor) -> None:
    """A chunk of one row. queries: (tokens, heads, D); cached keys and values: (kv_heads, length, D)."""
    keys, values = cached
    tokens, (_, heads, width) = span.stop - span.start, queries.shape
    kv_heads, group = keys.shape[0], heads // keys.shape[0]
    rows = queries[span.start : span.stop].view(tokens, kv_heads, group, width).permute(1, 2, 0, 3)
    bias = span.bias.expand(group, tokens, span.length).reshape(1, group * tokens, span.length)
    mixed = _mix(rows.reshape(kv_heads, group * tokens, width), keys, values, bias, scaling)
    out[span.start : span.stop] = (
        mixed.view(kv_heads, group, tokens, width).permute(2, 0, 1, 3).reshape(tokens, heads, width)
    )


def _mix(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor, scaling: float) -> Tensor:
    """queries: (n, rows, D) against keys, values: (n, length, D); bias broadcasts to (n, rows, length)."""
    scores = torch.baddbmm(bias, queries, keys.transpose(1, 2), alpha=scaling)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(values.dtype)
    return torch.bmm(weights, values)


AttentionInterface.register(NAME, attend)
