"""The last step of a pass: logits of the tokens that need them, each with its own adapter's head. Knows no sampling.

Where no adapter of the pass touches the head, this is one product and nothing else.
"""

from __future__ import annotations

from itertools import groupby

from torch import Tensor, nn

from serving.base import Site
from serving.linear import Turn, apply
from serving.native import linear


class Head(nn.Module):
    """Stands in the module tree where the output embedding stood."""

    def __init__(self, site: Site, turn: Turn) -> None:
        super().__init__()
        self._site = site
        self._turn = turn

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., kept, hidden_size), the kept tokens in the roster's order -> (..., kept, vocabulary)"""
        site, roster = self._site, self._turn.roster
        adapters = () if roster is None else roster.kept_adapters
        if all(adapter is None or adapter.head is None for adapter in adapters):
            return self._base(x)
        hidden, gained = x.view(-1, x.shape[-1]), x.reshape(-1, x.shape[-1]).clone()
        changes = []
        start = 0
        for adapter, group in groupby(adapters):
            stretch = slice(start, start := start + len(list(group)))
            if adapter is not None and adapter.head is not None:
                changes.append((stretch, adapter.head))
                if adapter.head.input_gain is not None:
                    gained[stretch].mul_(adapter.head.input_gain)
        logits = self._base(gained)
        for stretch, delta in changes:
            apply(delta, site, hidden[stretch], logits[stretch])
        return logits.view(*x.shape[:-1], -1)

    def _base(self, x: Tensor) -> Tensor:
        logits = linear(x, self._site.weight)
        return logits if self._site.bias is None else logits + self._site.bias
