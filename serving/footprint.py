"""How much memory an adapter will take once loaded, from what its file holds and before any value is read."""

from __future__ import annotations

import math

import torch

from registry.adapter_config import AdapterConfig
from registry.layout import TOKENS, Module
from serving.adapter_file import AdapterFile
from serving.base import Base, Site
from serving.blueprint import Blueprint

VECTOR_BYTES = torch.float32.itemsize
INDEX_BYTES = torch.int64.itemsize
_LOW_RANK = frozenset({"lora_A.weight", "lora_B.weight", "lora_embedding_A", "lora_embedding_B"})
_WHOLE = frozenset({"weight", "base_layer.weight"})


def footprint(file: AdapterFile, base: Base) -> int:
    """Bytes that loading it takes at most: exact for low rank on linears, an upper bound for the rarer kinds."""
    if (blueprint := Blueprint.of(file, base)) is not None:
        return blueprint.num_bytes
    layout, config, item_bytes = file.layout, file.config, base.dtype.itemsize
    if layout.prompt is not None:
        return math.prod(layout.prompt.shape) * item_bytes
    modules = {module.name: module for module in layout.modules}
    low_rank = sum(
        math.prod(entry.shape) * item_bytes
        for module in layout.modules
        for part, entry in module.parts.items()
        if part in _LOW_RANK
    )
    sites = sum(_site(site, [modules[name] for name in site.names if name in modules], config) for site in base.sites)
    vocabulary = sum(_vocabulary(module, base, config) for module in layout.modules if module.place != "linear")
    return low_rank + sites + vocabulary


def _site(site: Site, modules: list[Module], config: AdapterConfig) -> int:
    """Gains, biases and replacements span all siblings of a site, whichever of them has one."""
    parts = {part for module in modules for part in module.parts}
    vectors = (2 * sum(site.out_features) + site.in_features) * VECTOR_BYTES if parts - _LOW_RANK else 0
    folded = len(site.names) > 1 and any("ia3_l" in module and config.is_feedforward(module.name) for module in modules)
    return vectors + (site.weight.nbytes if folded or parts & _WHOLE else 0)


def _vocabulary(module: Module, base: Base, config: AdapterConfig) -> int:
    """An embedding or a head, with what changes in the other where they share their weight."""
    is_tied, is_head = base.profile.is_tied, module.place == "head"
    vocab_size, hidden_size = base.input_embeddings.shape
    total = _site(base.head, [module], config) if is_head else hidden_size * VECTOR_BYTES
    if _WHOLE & module.parts.keys() and (is_tied or not is_head):
        total += base.input_embeddings.nbytes
    if _WHOLE & module.parts.keys() and is_tied and not is_head:
        total += base.head.weight.nbytes
    if TOKENS in module:
        tokens = module.parts[TOKENS].shape[0]
        total += tokens * (hidden_size * VECTOR_BYTES + INDEX_BYTES)
        total += tokens * (hidden_size + vocab_size) * base.dtype.itemsize
    return total
