"""IA3: a trained scale on a linear's output, or on its input where it is a feed-forward one (arXiv:2205.05638)."""

from __future__ import annotations

from torch import Tensor

from registry.layout import Module
from serving.adapter_file import AdapterFile
from serving.change import Change
from serving.lora import Bias, trained_bias


def ia3(file: AdapterFile, module: Module, bias: Bias, copied: Tensor | None) -> Change:
    """The output's scale reaches the base's bias, (out_features,), too."""
    base = bias()
    scale = file.need(module, "ia3_l").flatten().to(base.device)
    trained = trained_bias(file, module, "base_layer.bias", bias)
    if file.config.is_feedforward(module.name):
        return Change(input_gain=scale, bias=trained, replacement=copied)
    own = base if trained is None else base + trained
    return Change(gain=scale, bias=scale * own - base, replacement=copied)
