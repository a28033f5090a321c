"""Which causal architectures the engine can run exactly. Knows no adapter.

A row must not depend on its batch mates, and attention must go through our function alone. What the module tree would
do otherwise, silently, is refused when the base is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from registry.errors import Invalid

LAYERS = {"full_attention", "sliding_attention"}
BATCH_DEPENDENT = {"dynamic", "longrope"}
"""Rotary positions whose angles depend on the longest row of the batch."""


def check_architecture(tree: Any) -> None:
    """Invalid, naming what of the model cannot be served exactly."""
    for complaint in _complaints(tree, tree.config):
        raise Invalid(f"{type(tree).__name__} cannot be a base: {complaint}", param="base")


def _complaints(tree: nn.Module, config: Any) -> Iterator[str]:
    if not getattr(tree, "_supports_attention_backend", False) or getattr(tree, "_is_stateful", False):
        yield "its attention cannot be replaced by the engine's"
    if strange := set(getattr(config, "layer_types", None) or ()) - LAYERS:
        yield f"it has layers of {', '.join(sorted(strange))}"
    if strange := set(_rotary_types(getattr(config, "rope_parameters", None) or {})) & BATCH_DEPENDENT:
        yield f"its {', '.join(sorted(strange))} rotary positions depend on the longest row of a batch"
    if any(hasattr(module, "sinks") for module in tree.modules()):
        yield "its attention has sinks"
    if getattr(config, "use_bidirectional_attention", False) or not getattr(config, "is_causal", True):
        yield "its attention is not causal"
    if getattr(config, "kv_lora_rank", None) or getattr(config, "num_kv_shared_layers", 0):
        yield "its keys and values are compressed or shared between layers"


def _rotary_types(parameters: Mapping[str, Any]) -> Iterator[str]:
    """Of a model whose layers all turn alike, or of each kind of its layers."""
    for value in (parameters, *parameters.values()):
        if isinstance(value, Mapping) and "rope_type" in value:
            yield str(value["rope_type"])
