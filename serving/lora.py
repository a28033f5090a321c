"""LoRA on a linear or on the head, with all that PEFT can add to it: DoRA, trained biases, a bias on B. Knows no site's
siblings."""

from __future__ import annotations

import torch
from torch import Tensor

from registry.layout import Module
from serving.adapter_file import AdapterFile
from serving.change import Change
from serving.dora import row_gain


def lora(file: AdapterFile, module: Module, weight: Tensor, bias: Tensor, copied: Tensor | None) -> Change:
    """weight: (out, in) and bias: (out,) are the base's; `copied` is what the file has instead of the weight, if so."""
    scaling = file.config.scaling_of(module.name)
    a = file.peek(module, "lora_A.weight").to(weight.device)
    b = file.peek(module, "lora_B.weight").to(weight.device)
    gain = None
    if (magnitude := file.part(module, "lora_magnitude_vector")) is not None:
        gain = row_gain(
            weight if copied is None else copied, (b.float() * scaling) @ a.float(), magnitude.to(weight.device)
        )
        b = b.float() * gain[:, None]
    added = trained_bias(file, module, "base_layer.bias", bias)
    if (lora_bias := file.part(module, "lora_B.bias")) is not None:
        added = lora_bias.to(weight.device) * scaling + (0 if added is None else added)
    return Change(a=a.t(), b=b.t(), scale=scaling, gain=gain, bias=added, replacement=copied)


def trained_bias(file: AdapterFile, module: Module, part: str, bias: Tensor) -> Tensor | None:
    """What a trained bias adds to the base's."""
    trained = file.part(module, part)
    return None if trained is None else trained.to(bias.device) - bias


def trained_tokens(rows: Tensor, tokens: tuple[int, ...], weight: Tensor) -> Change:
    """A head some of whose rows were trained, as a change of their number's rank. rows: (n, hidden_size)."""
    places = torch.tensor(tokens, device=weight.device)
    chosen = torch.zeros(len(tokens), len(weight), device=weight.device)
    chosen[torch.arange(len(tokens), device=weight.device), places] = 1
    return Change(a=(rows.to(weight.device) - weight[places].float()).t(), b=chosen)
