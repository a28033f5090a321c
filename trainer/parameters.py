"""Trainable parameters as one flat float32 vector, and the AdamW that moves it. Knows no model and no data.

The model computes with working copies in its own type; what is learned lives in float32:

    master  (n,) float32    | lora_A q_proj | lora_B q_proj | lora_A k_proj | ...
    working (n,) bfloat16   the modules' parameters are views into it; so are their gradients
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from registry.errors import Corrupt
from trainer.spec import Train


class FlatParameters:
    """Owns the storage of the parameters it is given; their names and order are the layout."""

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        self._parameters = parameters
        first = next(iter(parameters.values()))
        self.master = torch.cat([p.detach().float().reshape(-1) for p in parameters.values()])
        self._working = self.master if first.dtype == torch.float32 else self.master.to(first.dtype)
        self._gradients = torch.zeros_like(self._working)
        for name, (start, stop) in self._places().items():
            parameter = parameters[name]
            parameter.data = self._working[start:stop].view(parameter.shape)
            parameter.grad = self._gradients[start:stop].view(parameter.shape)

    def take_gradients(self) -> Tensor:
        """What backward has left since the last call, as float32, and start again from zero."""
        taken = self._gradients.to(torch.float32, copy=True)
        self._gradients.zero_()
        return taken

    def publish(self) -> None:
        """Let the model compute with what has been learned."""
        if self._working is not self.master:
            self._working.copy_(self.master)

    def named(self, flat: Tensor | None = None) -> dict[str, Tensor]:
        """Float32 copies under the modules' names."""
        flat = self.master if flat is None else flat
        places = self._places().items()
        return {name: flat[a:b].view(self._parameters[name].shape).clone() for name, (a, b) in places}

    def set(self, flat: Tensor) -> None:
        self.master.copy_(flat)
        self.publish()

    def set_named(self, tensors: Mapping[str, Tensor]) -> None:
        """Start from another adapter's tensors; they must be the very same names and shapes."""
        for name, (start, stop) in self._places().items():
            tensor = tensors.get(name)
            if tensor is None or tensor.shape != self._parameters[name].shape:
                raise Corrupt(f"the adapter to start from has no tensor {name} of this shape")
            self.master[start:stop] = tensor.reshape(-1).to(self.master)
        self.publish()

    def _places(self) -> dict[str, tuple[int, int]]:
        places: dict[str, tuple[int, int]] = {}
        start = 0
        for name, parameter in self._parameters.items():
            places[name] = (start, start + parameter.numel())
            start += parameter.numel()
        return places


class AdamW:
    """Torch's AdamW on the one vector, fused into a single pass, after clipping its gradient."""

    def __init__(self, parameters: FlatParameters, train: Train) -> None:
        self._parameters = parameters
        self._clip = train.clip
        self._adamw = torch.optim.AdamW([parameters.master], lr=train.lr, weight_decay=train.weight_decay, fused=True)
        self.mean = torch.zeros_like(parameters.master)
        self.square = torch.zeros_like(parameters.master)
        self._state = self._adamw.state[parameters.master]
        self._state |= {"step": torch.zeros(()), "exp_avg": self.mean, "exp_avg_sq": self.square}

    def resume(self, steps: int, mean: Tensor, square: Tensor) -> None:
        self._state["step"].fill_(steps)
        self.mean.copy_(mean)
        self.square.copy_(square)

    def step(self, gradient: Tensor, lr: float) -> float:
        """Move the parameters once; returns the norm of the gradient (overwritten) before clipping."""
        norm = float(gradient.norm())
        if not math.isfinite(norm):
            raise Corrupt("the gradient is not finite", hint="lower train.lr, or look for broken rows")
        if norm > self._clip:
            gradient.mul_(self._clip / (norm + 1e-6))
        self._adamw.param_groups[0]["lr"] = lr
        self._parameters.master.grad = gradient
        self._adamw.step()
        self._parameters.publish()
        return norm


def learning_rate(train: Train, step: int, total: int) -> float:
    """Linear warm-up, then half a cosine down to zero. `step` counts from 0."""
    warm = max(1, round(train.warmup * total))
    if step < warm:
        return train.lr * (step + 1) / warm
    return train.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))
