"""LoRA on a linear or on the head, with all that PEFT can add to it: DoRA, trained biases, a bias on B. Knows no site's
siblings."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from registry.layout import Module
from serving.adapter_file import AdapterFile
from serving.change import Change
from serving.dora import row_gain

Bias = Callable[[], Tensor]
"""The base's, (out_features,) float32, for the few adapters that change it."""


def lora(file: AdapterFile, module: Module, weight: Tensor, bias: Bias, copied: Tensor | None) -> Change:
    """weight: (out, in) and bias: (out,) are the base's; `copied` is what the file has instead of the weight, if so."""
    scaling = file.config.scaling_of(module.name)
    if "lora_magnitude_vector" in module:
        a, b, gain = _dora(file, module, weight if copied is None else copied, scaling)
    else:  # as they are stored: they are checked when they are brought into the batch's layout
        a, b, gain = file.peek(module, "lora_A.weight"), file.peek(module, "lora_B.weight"), None
    added = trained_bias(file, module, "base_layer.bias", bias)
    if (lora_bias := file.part(module, "lora_B.bias")) is not None:
        added = lora_bias.to(weight.device) * scaling + (0 if added is None else added)
    return Change(
        a=a.to(weight.device), b=b.to(weight.device), scale=scaling, gain=gain, bias=added, replacement=copied
    )


def _dora(file: AdapterFile, module: Module, weight: Tensor, scaling: float) -> tuple[Tensor, Tensor, Tensor]:
    """a, b with the gain folded in, and the gain."""
    a, b, magnitude = (
        file.need(module, part).to(weight.device)
        for part in ("lora_A.weight", "lora_B.weight", "lora_magnitude_vector")
    )
    gain = row_gain(weight, (b * scaling) @ a, magnitude)
    return a, b * gain[:, None], gain


def trained_bias(file: AdapterFile, module: Module, part: str, bias: Bias) -> Tensor | None:
    """What a trained bias adds to the base's."""
    trained = file.part(module, part)
    if trained is None:
        return None
    own = bias()
    return trained.to(own.device) - own


def trained_tokens(rows: Tensor, tokens: tuple[int, ...], weight: Tensor) -> Change:
    """A head some of whose rows were trained, as a change of their number's rank. rows: (n, hidden_size)."""
    places = torch.tensor(tokens, device=weight.device)
    chosen = torch.zeros(len(tokens), len(weight), device=weight.device)
    chosen[torch.arange(len(tokens), device=weight.device), places] = 1
    return Change(a=rows.to(weight.device) - weight[places].float(), b=chosen.t())
