"""The native step: tokens through a whole stack of Llama-like layers in one call of the kernel. Knows no request.

Which stacks it can walk is decided by name and by shape, never guessed: any other goes through the module tree.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from serving.adapter import LoadedAdapter
from serving.base import Base, Site
from serving.blueprint import Blueprint, SlabDeltas
from serving.kv import KVCache
from serving.native import MAX_WIDTH, NativeDelta, Pointer, Word, address, describe, in_bands, kernel, shifted
from serving.scheduler import Chunk

LAYERS = ("LlamaDecoderLayer", "MistralDecoderLayer", "Qwen2DecoderLayer", "Qwen3DecoderLayer")
ROTARY = ("default", "linear", "llama3", "yarn")
"""Kinds of rotary positions whose angles depend on the position alone."""
SLICE = 128
"""As in kernel/model.h: most tokens that go through a layer together."""
BLOCK = 8
"""As in kernel/model.h: tokens of one row that attend together."""
LANES = 16
SITES = (("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj"), ("down_proj",))


class _Site(ctypes.Structure):
    _fields_ = (("weight", Pointer), ("bias", Pointer), ("in_features", Word), ("outs", Word))


class _Layer(ctypes.Structure):
    _fields_ = (
        ("site", _Site * len(SITES)),
        ("attention_norm", Pointer),
        ("mlp_norm", Pointer),
        ("query_norm", Pointer),
        ("key_norm", Pointer),
        ("keys", Pointer),
        ("values", Pointer),
        ("window", Word),
    )


class _Stack(ctypes.Structure):
    _fields_ = (
        ("layers", Pointer),
        ("num_layers", Word),
        ("hidden", Word),
        ("heads", Word),
        ("kv_heads", Word),
        ("head_dim", Word),
        ("epsilon", ctypes.c_float),
        ("scaling", ctypes.c_float),
        ("norm", Pointer),
        ("cosines", Pointer),
        ("sines", Pointer),
    )


class _Step(ctypes.Structure):
    _fields_ = (
        ("num_tokens", Word),
        ("positions", Pointer),
        ("starts", Pointer),
        ("capacities", Pointer),
        ("adapters", Pointer),
        ("hidden", Pointer),
    )


class _Room(ctypes.Structure):
    _fields_ = (
        ("residual", Pointer),
        ("normed", Pointer),
        ("queries", Pointer),
        ("gated", Pointer),
        ("gained", Pointer),
        ("packed", Pointer),
        ("wide", Pointer),
        ("bottleneck", Pointer),
        ("mixed", Pointer),
        ("scores", Pointer),
        ("scores_rows", Word),
        ("scores_stride", Word),
        ("rank_stride", Word),
        ("widest_in", Word),
        ("widest_out", Word),
    )


@dataclass(frozen=True, eq=False)
class NativeAdapter:
    """One adapter as the kernel sees it: a delta for every site, layer by layer."""

    deltas: ctypes.Array[NativeDelta]
    rank: int
    """The largest total rank of any site."""


class NativeStack:
    """Owns the kernel's description of one model and its working memory. `make` says whether there can be one."""

    def __init__(self, base: Base, tree: Any, sites: Sequence[Site], cache: KVCache, positions: int) -> None:
        self._tree, self._sites, self._cache = tree, sites, cache
        self._dtype = base.dtype
        self._heads: int = tree.config.num_attention_heads
        self._hidden: int = tree.config.hidden_size
        self._angles = _angles(tree.base_model.rotary_emb, positions)
        layers = tree.base_model.layers
        self._layers = (_Layer * len(layers))(*(self._layer(index) for index in range(len(layers))))
        self._stack = _Stack(
            ctypes.addressof(self._layers),
            len(layers),
            self._hidden,
            self._heads,
            cache.kv_heads,
            cache.head_dim,
            tree.base_model.norm.variance_epsilon,
            layers[0].self_attn.scaling,
            address(tree.base_model.norm.weight),
            *(address(angle) for angle in self._angles),
        )
        self._adapters: WeakKeyDictionary[LoadedAdapter, NativeAdapter | None] = WeakKeyDictionary()
        self._models: WeakKeyDictionary[Blueprint, tuple[NativeAdapter | None, int]] = WeakKeyDictionary()
        """One adapter of each blueprint, and where its slab was."""
        self._room, self._buffers, self._sizes = _Room(), dict[str, Tensor](), [0, 0, 0]

    @classmethod
    def make(cls, base: Base, tree: Any, cache: KVCache, positions: int) -> NativeStack | None:
        """None where the kernel cannot be had or does not know this architecture."""
        if base.device.type != "cpu" or not is_walkable(tree, cache.head_dim) or kernel(base.dtype) is None:
            return None
        sites = _sites_in_order(base, len(tree.base_model.layers))
        return None if sites is None else cls(base, tree, sites, cache, positions)

    def can_apply(self, adapters: Iterable[LoadedAdapter | None]) -> bool:
        """Whether the kernel knows all that these adapters change in the layers."""
        return all(adapter is None or self._native(adapter) is not None for adapter in adapters)

    def __call__(self, chunks: Sequence[Chunk], adapters: Sequence[LoadedAdapter | None], hidden: Tensor) -> None:
        """The chunks' tokens through the layers, each chunk with its adapter, which must be one it `can_apply`.

        hidden: (tokens, hidden_size), the embeddings, becomes the last hidden states. Fills the cache.
        """
        natives = [None if adapter is None else self._native(adapter) for adapter in adapters]
        num_threads = torch.get_num_threads()
        rank = max((native.rank for native in natives if native is not None), default=1)
        self._make_room(len(hidden), rank, num_threads)
        deltas = (None if native is None else ctypes.addressof(native.deltas) for native in natives)
        tokens = [
            (position, region.start, region.capacity, delta)
            for chunk, delta in zip(chunks, deltas, strict=True)
            if (region := chunk.row.region) is not None
            for position in range(chunk.start, chunk.stop)
        ]
        positions, starts, capacities, owners = zip(*tokens, strict=True)
        places = [(Word * len(tokens))(*column) for column in (positions, starts, capacities)]
        whose = (Pointer * len(tokens))(*owners)
        pointers = (ctypes.addressof(column) for column in places)
        step = _Step(len(tokens), *pointers, ctypes.addressof(whose), hidden.data_ptr())
        library = kernel(self._dtype)
        assert library is not None
        library.walk(ctypes.byref(self._stack), ctypes.byref(step), ctypes.byref(self._room), num_threads)

    def _native(self, adapter: LoadedAdapter) -> NativeAdapter | None:
        if adapter not in self._adapters:
            self._adapters[adapter] = self._describe(adapter)
        return self._adapters[adapter]

    def _describe(self, adapter: LoadedAdapter) -> NativeAdapter | None:
        """What shares a blueprint is described once, and moved to where its slab is."""
        if not isinstance(adapter.deltas, SlabDeltas):
            return self._describe_all(adapter)
        place, blueprint = adapter.deltas.memory.data_ptr(), adapter.deltas.blueprint
        if blueprint not in self._models:
            self._models[blueprint] = self._describe_all(adapter), place
        model, other = self._models[blueprint]
        return None if model is None else NativeAdapter(shifted(model.deltas, place - other), model.rank)

    def _describe_all(self, adapter: LoadedAdapter) -> NativeAdapter | None:
        deltas = (NativeDelta * len(self._sites))()
        for place, site in enumerate(self._sites):
            if (delta := adapter.deltas.get(site.index)) is not None:
                native = describe(delta, site)
                if native is None:
                    return None
                deltas[place] = native
        return NativeAdapter(deltas, max((delta.total_rank for delta in deltas), default=1) or 1)

    def _layer(self, index: int) -> _Layer:
        layer = self._tree.base_model.layers[index]
        attention = layer.self_attn
        sites = self._sites[len(SITES) * index : len(SITES) * (index + 1)]
        norms = (getattr(attention, name, None) for name in ("q_norm", "k_norm"))
        return _Layer(
            (_Site * len(SITES))(*(_site(site) for site in sites)),
            address(layer.input_layernorm.weight),
            address(layer.post_attention_layernorm.weight),
            *(None if norm is None else address(norm.weight) for norm in norms),
            address(self._cache.keys[index]),
            address(self._cache.values[index]),
            window_of(attention) or 0,
        )

    def _make_room(self, tokens: int, rank: int, num_threads: int) -> None:
        """Working memory for so many tokens with adapters of at most this total rank, and for so many threads."""
        needed = (tokens, min(tokens, SLICE) * rank, num_threads)
        if any(wanted > held for wanted, held in zip(needed, self._sizes, strict=True)):
            self._sizes = list(map(max, needed, self._sizes))
            self._room = self._allocate(*self._sizes)
        self._room.rank_stride = rank

    def _allocate(self, tokens: int, bottleneck: int, num_threads: int) -> _Room:
        widest_in = max(site.in_features for site in self._sites)
        widest_out = max(sum(site.out_features) for site in self._sites)
        stride = self._cache.total // LANES * LANES + 2 * LANES
        together = min(tokens, SLICE)
        attended = self._heads * self._cache.head_dim
        looking = in_bands(BLOCK * self._heads // self._cache.kv_heads)
        single, number = torch.float32, self._dtype
        self._buffers = {
            "residual": torch.empty(tokens * self._hidden, dtype=single),
            "normed": torch.empty(tokens * self._hidden, dtype=number),
            "queries": torch.empty(tokens * attended, dtype=number),
            "gated": torch.empty(together * widest_in, dtype=number),
            "gained": torch.empty(together * widest_in, dtype=number),
            "packed": torch.empty(in_bands(together) * widest_in, dtype=number),
            "wide": torch.empty(together * widest_out, dtype=single),
            "bottleneck": torch.empty(bottleneck, dtype=single),
            "mixed": torch.empty(together * attended, dtype=number),
            "scores": torch.empty(num_threads * looking * stride, dtype=single),
        }
        places = (tensor.data_ptr() for tensor in self._buffers.values())
        return _Room(*places, looking, stride, 0, widest_in, widest_out)


def window_of(attention: Any) -> int | None:
    """How far back a layer's tokens see, themselves included; None: to the start."""
    own = getattr(attention, "sliding_window", None)
    if type(attention).__name__ == "MistralAttention":  # it alone looks for the window of all layers in its config
        own = getattr(attention.config, "sliding_window", None)
    return None if own is None else int(own)


def is_walkable(tree: Any, head_dim: int) -> bool:
    """Whether the kernel knows this architecture: its layers by name, its positions by kind and width."""
    config, model = tree.config, tree.base_model
    rotary = getattr(model, "rotary_emb", None)
    return (
        all(type(layer).__name__ in LAYERS for layer in getattr(model, "layers", [object()]))
        and getattr(config, "hidden_act", None) == "silu"
        and getattr(rotary, "rope_type", None) in ROTARY
        and 2 * len(getattr(rotary, "inv_freq", ())) == head_dim
    )


def _sites_in_order(base: Base, num_layers: int) -> list[Site] | None:
    """Every layer's four sites, layer by layer; None unless siblings are fused just so."""
    by_names = {site.names: site for site in base.sites}
    wanted = []
    for index in range(num_layers):
        for leaves, part in zip(SITES, ("self_attn", "self_attn", "mlp", "mlp"), strict=True):
            wanted.append(by_names.get(tuple(f"model.layers.{index}.{part}.{leaf}" for leaf in leaves)))
    found = [site for site in wanted if site is not None and max(sum(site.out_features), site.in_features) <= MAX_WIDTH]
    return found if len(found) == len(wanted) else None


def _site(site: Site) -> _Site:
    return _Site(address(site.weight), address(site.bias), site.in_features, sum(site.out_features))


def _angles(rotary: Any, positions: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of every position: (positions, head_dim) each, float32."""
    cosines, sines = rotary(torch.zeros(1), torch.arange(positions)[None])
    return cosines[0].float().contiguous(), sines[0].float().contiguous()
