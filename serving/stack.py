"""The native decoding step: a whole stack of Llama-like layers in one call of the kernel. Knows no request.

Which stacks it can walk is decided by name and by shape, never guessed: any other goes through the module tree.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from serving.base import Base, Site
from serving.kv import KVCache
from serving.native import MAX_WIDTH, NativeTable, Pointer, Word, address, kernel
from serving.pack import Pack
from serving.scheduler import Chunk

LAYERS = ("LlamaDecoderLayer", "MistralDecoderLayer", "Qwen2DecoderLayer", "Qwen3DecoderLayer")
ROTARY = ("default", "linear", "llama3", "yarn")
"""Kinds of rotary positions whose angles depend on the position alone."""
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
        ("num_rows", Word),
        ("positions", Pointer),
        ("starts", Pointer),
        ("capacities", Pointer),
        ("slots", Pointer),
        ("tables", Pointer),
        ("hidden", Pointer),
    )


class _Room(ctypes.Structure):
    _fields_ = (
        ("residual", Pointer),
        ("input", Pointer),
        ("gained", Pointer),
        ("wide", Pointer),
        ("bottleneck", Pointer),
        ("queries", Pointer),
        ("mixed", Pointer),
        ("scores", Pointer),
        ("scores_stride", Word),
        ("rank_stride", Word),
    )


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
        self._tables: list[NativeTable | None] = []
        self._pointers = (Pointer * len(sites))()
        self._room, self._buffers = _Room(), dict[str, Tensor]()

    @classmethod
    def make(cls, base: Base, tree: Any, cache: KVCache, positions: int) -> NativeStack | None:
        """None where the kernel cannot be had or does not know this architecture."""
        if base.device.type != "cpu" or not _is_walkable(tree) or kernel(base.dtype) is None:
            return None
        sites = _sites_in_order(base, len(tree.base_model.layers))
        return None if sites is None else cls(base, tree, sites, cache, positions)

    def __call__(self, chunks: Sequence[Chunk], slots: Sequence[int], hidden: Tensor, pack: Pack) -> None:
        """One token of each chunk, with the adapter in that slot of the pack (-1: none).

        hidden: (rows, hidden_size), the embeddings, becomes the last hidden states. Fills the cache.
        """
        tables = [table.native if (table := pack.table(site.index)) else None for site in self._sites]
        if tables != self._tables:
            self._tables = tables
            for index, native in enumerate(tables):
                self._pointers[index] = None if native is None else ctypes.addressof(native)
        rows = len(chunks)
        self._make_room(rows)
        regions = [chunk.row.region for chunk in chunks if chunk.row.region is not None]
        columns = (
            [chunk.start for chunk in chunks],
            [region.start for region in regions],
            [region.capacity for region in regions],
            slots,
        )
        words = [(Word * rows)(*column) for column in columns]
        pointers = (ctypes.addressof(word) for word in words)
        step = _Step(rows, *pointers, ctypes.addressof(self._pointers), hidden.data_ptr())
        library = kernel(self._dtype)
        assert library is not None
        library.decode(ctypes.byref(self._stack), ctypes.byref(step), ctypes.byref(self._room), torch.get_num_threads())

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

    def _make_room(self, rows: int) -> None:
        """Working memory for this many rows and for the largest rank at hand."""
        rank = max((table.total_rank for table in self._tables if table is not None), default=1)
        if rows * rank > self._size("bottleneck") or rows * self._hidden > self._size("residual"):
            self._room = self._allocate(rows, rank)
        self._room.rank_stride = rank

    def _size(self, name: str) -> int:
        return self._buffers[name].numel() if name in self._buffers else 0

    def _allocate(self, rows: int, rank: int) -> _Room:
        widest_in = max(site.in_features for site in self._sites)
        widest_out = max(sum(site.out_features) for site in self._sites)
        stride = (self._cache.total + 15) // 16 * 16
        attended = rows * self._heads * self._cache.head_dim
        scores = torch.get_num_threads() * self._heads // self._cache.kv_heads * stride
        single, number = torch.float32, self._dtype
        self._buffers = {
            "residual": torch.empty(rows * self._hidden, dtype=single),
            "input": torch.empty(rows * widest_in, dtype=number),
            "gained": torch.empty(rows * widest_in, dtype=number),
            "wide": torch.empty(rows * widest_out, dtype=single),
            "bottleneck": torch.empty(rows * rank, dtype=single),
            "queries": torch.empty(attended, dtype=number),
            "mixed": torch.empty(attended, dtype=number),
            "scores": torch.empty(scores, dtype=single),
        }
        return _Room(*(tensor.data_ptr() for tensor in self._buffers.values()), stride, rank)


def window_of(attention: Any) -> int | None:
    """How far back a layer's tokens see, themselves included; None: to the start."""
    own = getattr(attention, "sliding_window", attention.config)
    if own is attention.config:  # Mistral keeps the window of all layers in its config
        own = getattr(attention.config, "sliding_window", None)
    return None if own is None else int(own)


def _is_walkable(tree: Any) -> bool:
    config, model = tree.config, tree.base_model
    rotary = getattr(getattr(model, "rotary_emb", None), "rope_type", None)
    return (
        all(type(layer).__name__ in LAYERS for layer in getattr(model, "layers", [object()]))
        and getattr(config, "hidden_act", None) == "silu"
        and rotary in ROTARY
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
