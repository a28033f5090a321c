"""One forward and backward over the frozen base with trainable LoRA pairs, made for short steps on few cores.

PEFT makes the modules and names the files; the arithmetic of a plain LoRA linear and of attention is done here, in
fewer passes and without casts. Rows are padded to one length and laid end to end; only supervised positions reach
the output head:

    tokens (1, rows * length)   row 0 ....pad | row 1 ......... | row 2 ..pad       logits: (supervised, vocabulary)

Knows no optimiser and no data set.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import peft
import torch
import torch.nn.functional as F
from peft.tuners.lora.layer import Linear as PeftLinear
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

from registry.errors import Refused
from trainer.rendering import TokenRow
from trainer.spec import Method

ATTENTION = "lorimer_lane"
MATERIALISE_UP_TO = 1024
"""Longest row whose attention scores are kept; beyond, memory matters more than the speed of two products."""


@dataclass
class StepContext:
    """What the layers need to know of the batch they are in."""

    rows: int = 1
    dropout: float = 0.0
    generator: torch.Generator | None = None


@dataclass(frozen=True, eq=False)
class Batch:
    """`tokens`, `positions`: (1, rows * length). `sources[i]` is the flat place whose logits predict `targets[i]`."""

    tokens: Tensor
    positions: Tensor
    sources: Tensor
    targets: Tensor
    rows: int


def make_batch(rows: Sequence[TokenRow], device: torch.device) -> Batch:
    """Pad on the right, where causal attention never looks."""
    length = max(len(row) for row in rows)
    tokens = torch.zeros(len(rows), length, dtype=torch.long)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = torch.tensor(row.tokens)
    targets = [i * length + at for i, row in enumerate(rows) for at in row.supervised]
    flat = tokens.view(-1)
    return Batch(
        tokens=flat[None].to(device),
        positions=torch.arange(length).repeat(len(rows))[None].to(device),
        sources=(torch.tensor(targets) - 1).to(device),
        targets=flat[torch.tensor(targets)].to(device),
        rows=len(rows),
    )


class Trainee:
    """A module tree of the base with LoRA pairs of one method in it."""

    def __init__(self, tree: PreTrainedModel, method: Method, *, seed: int) -> None:
        self.context = StepContext()
        self.dropout = method.dropout
        self.generator = torch.Generator().manual_seed(seed)
        self.config = peft.LoraConfig(
            r=method.r,
            lora_alpha=method.alpha,
            lora_dropout=method.dropout,
            target_modules=method.targets if isinstance(method.targets, str) else list(method.targets),
            task_type="CAUSAL_LM",
        )
        tree.requires_grad_(requires_grad=False)
        tree.set_attn_implementation(ATTENTION)
        self.tree = tree
        self._wrap(seed)

    def _wrap(self, seed: int) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                with warnings.catch_warnings():
                    # peft asks transformers by a name that transformers deprecates
                    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
                    self.model = peft.get_peft_model(self.tree, self.config, autocast_adapter_dtype=False)
            except ValueError as error:
                raise Refused(f"method.targets: {str(error).splitlines()[0]}") from error
        self.parameters: dict[str, nn.Parameter] = {
            name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad
        }
        for module in self.model.modules():
            if isinstance(module, PeftLinear):
                _quicken(module, self.context)

    def loss(self, batch: Batch, *, train: bool) -> Tensor:
        """Sum of the negative log-likelihoods of the supervised tokens, in nats."""
        self.context.rows = batch.rows
        self.context.dropout = self.dropout if train else 0.0
        self.context.generator = self.generator
        output = self.tree(
            input_ids=batch.tokens,
            position_ids=batch.positions,
            logits_to_keep=batch.sources,
            use_cache=False,
            lane_rows=batch.rows,
        )
        logits = output.logits[0].float()  # (supervised, vocabulary)
        return F.cross_entropy(logits, batch.targets, reduction="sum")


@dataclass(frozen=True, eq=False)
class Layer:
    """What a LoRA linear needs beside its trainable pair."""

    linear: nn.Linear
    scale: float
    step: StepContext


class LowRankLinear(torch.autograd.Function):
    """y = W x + s B A (d * x), with d one dropout mask a row, the same at all of the row's positions.

    Folding the mask into A costs (rows, r, in) instead of (tokens, in) random numbers and products; it is the only
    departure from PEFT's layer, which draws a fresh mask at every position.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, b: Tensor, layer: Layer) -> Tensor:
        """x: (1, tokens, in); a: (r, in); b: (out, r)"""
        base, scale, step = layer.linear, layer.scale, layer.step
        rows = x.view(step.rows, -1, x.shape[-1])
        keep = _row_mask(step, x)
        masked = a * scale if keep is None else a * (keep * (scale / (1 - step.dropout)))  # (r, in) or (rows, r, in)
        inner = torch.matmul(rows, masked.transpose(-1, -2)).view(-1, a.shape[0])  # (tokens, r)
        y = F.linear(x[0], base.weight, base.bias).addmm_(inner, b.t())
        ctx.save_for_backward(x, inner, masked, a, b, base.weight, *(() if keep is None else (keep,)))
        ctx.scale = scale if keep is None else scale / (1 - step.dropout)
        return y[None]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        x, inner, masked, a, b, weight, *keep = ctx.saved_tensors
        grad = grads[0].reshape(-1, weight.shape[0])  # (tokens, out)
        grad_b = (inner.t() @ grad).t()
        grad_inner = grad @ b  # (tokens, r)
        if keep:
            per_row = grad_inner.view(masked.shape[0], -1, a.shape[0])
            grad_a = (torch.bmm(per_row.transpose(1, 2), x.view(masked.shape[0], -1, x.shape[-1])) * keep[0]).sum(0)
        else:
            grad_a = grad_inner.t() @ x[0]
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = grad @ weight
            if keep:
                grad_x.view(masked.shape[0], -1, x.shape[-1]).baddbmm_(per_row, masked)
            else:
                grad_x.addmm_(grad_inner, masked)
            grad_x = grad_x[None]
        return grad_x, grad_a * ctx.scale, grad_b, None


def _row_mask(step: StepContext, x: Tensor) -> Tensor | None:
    if not step.dropout:
        return None
    keep = torch.empty(step.rows, 1, x.shape[-1], dtype=x.dtype)
    return keep.bernoulli_(1 - step.dropout, generator=step.generator).to(x.device)


def _quicken(module: Any, context: StepContext) -> None:
    """Replace the forward of one of PEFT's plain LoRA linears."""
    (name,) = module.active_adapters
    a, b, linear = module.lora_A[name].weight, module.lora_B[name].weight, module.get_base_layer()
    assert not module.lora_variant, "only plain LoRA is made here"
    if type(linear) is not nn.Linear:
        raise Refused(f"method.targets: {type(linear).__name__} modules cannot be trained")
    layer = Layer(linear, module.scaling[name], context)

    def forward(x: Tensor) -> Tensor:
        result: Tensor = LowRankLinear.apply(x, a, b, layer)  # type: ignore[no-untyped-call]
        return result

    module.forward = forward


def lane_attention(
    _module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _mask: Tensor | None,
    scaling: float | None = None,
    *,
    lane_rows: int,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention inside each row. query: (1, H, rows * T, D); key, value: (1, K, rows * T, D)"""
    heads, groups, width = query.shape[1], key.shape[1], query.shape[-1]
    q, k, v = (_by_row(tensor, lane_rows) for tensor in (query, key, value))  # (rows, H or K, T, D)
    length = q.shape[2]
    mask = _causal(length, sliding_window, q.dtype, q.device)
    scale = width**-0.5 if scaling is None else scaling
    if length > MATERIALISE_UP_TO:
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale, enable_gqa=heads != groups)
    else:
        # The query heads that share a key head become its rows: two products, no copy of keys or values.
        folded = (q * scale).reshape(lane_rows * groups, -1, width)
        scores = torch.bmm(folded, k.reshape(-1, length, width).transpose(1, 2)).view(
            -1, heads // groups, length, length
        )
        weights = (scores + mask).softmax(-1).view(lane_rows * groups, -1, length)
        out = torch.bmm(weights, v.reshape(-1, length, width)).view(lane_rows, heads, length, width)
    return out.transpose(1, 2).reshape(1, -1, heads, width), None


def _by_row(tensor: Tensor, rows: int) -> Tensor:
    return tensor[0].view(tensor.shape[1], rows, -1, tensor.shape[-1]).transpose(0, 1)


@lru_cache(maxsize=16)
def _causal(length: int, window: int | None, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(T, T): 0 where a query may look, -inf elsewhere."""
    places = torch.arange(length, device=device)
    behind = places[:, None] - places[None, :]
    hidden = (behind < 0) if window is None else (behind < 0) | (behind >= window)
    return torch.zeros(length, length, dtype=dtype, device=device).masked_fill_(hidden, float("-inf"))


AttentionInterface.register(ATTENTION, lane_attention)
