"""The batched multi-adapter linear: one base product for all tokens, and each token's own adapter added to it.

Rows without an adapter cost nothing extra. Knows no model: a site is a weight, and the plan says who sits where.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from serving.adapter import Delta
from serving.base import Site
from serving.native import add_adapters
from serving.pack import Pack, Table
from serving.plan import Plan


@dataclass(eq=False)
class Turn:
    """What the linears need to know of the step under way. Set by the forward pass, read by every site."""

    pack: Pack
    plan: Plan | None = None


class SiteProduct:
    """Computes one site for all its siblings when the first is called, and hands the others their columns."""

    def __init__(self, site: Site, turn: Turn) -> None:
        self._site = site
        self._turn = turn
        self._columns = _columns(site)
        self._input: Tensor | None = None
        self._parts: list[Tensor] = []

    def part(self, sibling: int, x: Tensor) -> Tensor:
        """x: (1, tokens, in_features) -> (1, tokens, out_features of the sibling), a view."""
        if self._input is not x:
            y = self(x)
            self._parts = [y[..., columns] for columns in self._columns]
            self._input = x
        if sibling == len(self._parts) - 1:
            self._input, parts = None, self._parts
            self._parts = []
            return parts[sibling]
        return self._parts[sibling]

    def __call__(self, x: Tensor) -> Tensor:
        y = functional.linear(x, self._site.weight, self._site.bias)
        plan = self._turn.plan
        if plan is not None:
            tokens, out = x.view(-1, x.shape[-1]), y.view(-1, y.shape[-1])
            if plan.num_seated and (table := self._turn.pack.table(self._site.index)) is not None:
                if table.native is not None:
                    add_adapters(table.native, tokens, out, plan.slots)
                else:
                    self._add_packed(table, plan, tokens, out)
            for segment in plan.segments:
                if (delta := segment.adapter.deltas.get(self._site.index)) is not None:
                    self._add_segment(delta, tokens[segment.start : segment.stop], out[segment.start : segment.stop])
        return y

    def _add_packed(self, table: Table, plan: Plan, x: Tensor, y: Tensor) -> None:
        """Decoding rows: every slot's bottleneck in one bmm, then one bmm per sibling. Mutates y."""
        num_slots = self._turn.pack.num_slots
        rows = x[:num_slots] if plan.seats is None else x.index_select(0, plan.seats)
        bottleneck = torch.bmm(rows.view(num_slots, -1, x.shape[-1]), table.a[:num_slots])
        for b, rank, offset, columns in zip(table.b, table.ranks, table.offsets, self._columns, strict=True):
            if rank == 0:
                continue
            added = torch.bmm(bottleneck[..., offset : offset + rank], b[:num_slots]).view(-1, b.shape[-1])
            y[: plan.num_seated, columns].add_(added if plan.seated is None else added.index_select(0, plan.seated))

    def _add_segment(self, delta: Delta, x: Tensor, y: Tensor) -> None:
        """One adapter's stretch of prompt tokens: one product for A, one per sibling for B. Mutates y."""
        bottleneck = torch.mm(x, delta.a)
        for part in delta.parts:
            columns = self._columns[part.sibling]
            y[:, columns].add_(torch.mm(bottleneck[:, part.start : part.stop], part.b))


class SiblingLinear(nn.Module):
    """Stands in the module tree where a linear stood; the work is its site's."""

    def __init__(self, product: SiteProduct, sibling: int) -> None:
        super().__init__()
        self._product = product
        self._sibling = sibling

    def forward(self, x: Tensor) -> Tensor:
        return self._product.part(self._sibling, x)


def install(tree: nn.Module, sites: tuple[Site, ...], turn: Turn) -> None:
    """Replace every linear of the sites in a module tree."""
    for site in sites:
        product = SiteProduct(site, turn)
        for sibling, name in enumerate(site.names):
            parent, _, leaf = name.rpartition(".")
            setattr(tree.get_submodule(parent), leaf, SiblingLinear(product, sibling))


def _columns(site: Site) -> list[slice]:
    ends = [sum(site.out_features[: sibling + 1]) for sibling in range(len(site.out_features))]
    return [slice(end - size, end) for end, size in zip(ends, site.out_features, strict=True)]
