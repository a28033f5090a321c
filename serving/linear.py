"""The batched multi-adapter linear: one base product for all tokens, and each token's own adapter added to it.

Rows without an adapter cost nothing extra. Knows no model: a site is a weight, and the plan says who sits where.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from serving.adapter import Delta
from serving.base import Site
from serving.pack import Pack, Table
from serving.plan import Plan, Roster


@dataclass(eq=False)
class Turn:
    """What the modules in the tree need to know of the pass under way. Set by the forward pass, read by all of them."""

    pack: Pack
    plan: Plan | None = None
    """For the linears: the arrangement of a pass through the tree."""
    roster: Roster | None = None
    """For the embedding and the head: who stands where, in a pass through the tree or through the native stack."""


class SiteProduct:
    """Computes one site for all its siblings when the first is called, and hands the others their columns."""

    def __init__(self, site: Site, turn: Turn) -> None:
        self._site = site
        self._turn = turn
        self._input: Tensor | None = None
        self._parts: list[Tensor] = []
        self._unclaimed = 0

    def part(self, sibling: int, x: Tensor) -> Tensor:
        """x: (..., tokens, in_features) -> (..., tokens, out_features of the sibling), a view."""
        if self._input is not x:
            y = self(x)
            self._input, self._parts = x, [y[..., columns] for columns in self._site.columns]
            self._unclaimed = len(self._parts)
        part = self._parts[sibling]
        self._unclaimed -= 1
        if not self._unclaimed:
            self._input, self._parts = None, []
        return part

    def __call__(self, x: Tensor) -> Tensor:
        site, plan = self._site, self._turn.plan
        if plan is None:
            return functional.linear(x, site.weight, site.bias)
        table = self._turn.pack.table(site.index) if plan.num_seated else None
        deltas = [
            (slice(segment.start, segment.stop), delta)
            for segment in plan.segments
            if (delta := segment.adapter.deltas.get(site.index)) is not None
        ]
        tokens = x.reshape(-1, x.shape[-1])
        y = functional.linear(self._gained(tokens, table, plan, deltas), site.weight, site.bias)
        if table is not None:
            self._apply_packed(table, plan, tokens, y)
        for stretch, delta in deltas:
            apply(delta, site, tokens[stretch], y[stretch])
        return y.view(*x.shape[:-1], -1)

    def _gained(self, x: Tensor, table: Table | None, plan: Plan, deltas: Sequence[tuple[slice, Delta]]) -> Tensor:
        """The input as the base's weight is to see it: x itself unless an adapter of the step scales it."""
        stretches = [(stretch, delta.input_gain) for stretch, delta in deltas if delta.input_gain is not None]
        if table is not None and table.input_gain is not None:
            stretches.append((slice(plan.num_seated), _of_slots(table.input_gain, plan)))
        if not stretches:
            return x
        gained = x.clone()
        for stretch, gain in stretches:
            gained[stretch].mul_(gain)
        return gained

    def _apply_packed(self, table: Table, plan: Plan, x: Tensor, y: Tensor) -> None:
        """Decoding rows, all adapters at once. x: what the site was given; y: the base's product, changed in place."""
        rows = y[: plan.num_seated]
        for slot, weight in table.replacements.items():
            places = (plan.slots == slot).nonzero()[:, 0].to(y.device)
            rows.index_copy_(0, places, functional.linear(x.index_select(0, places), weight, self._site.bias))
        if table.gain is not None:
            regain(rows, _of_slots(table.gain, plan), self._site.bias)
        if sum(table.ranks):
            self._add_packed(table, plan, x, y)
        if table.bias is not None:
            rows.add_(_of_slots(table.bias, plan))

    def _add_packed(self, table: Table, plan: Plan, x: Tensor, y: Tensor) -> None:
        """Decoding rows: every slot's bottleneck in one bmm, then one bmm per sibling. Mutates y."""
        num_slots = self._turn.pack.num_slots
        rows = x[:num_slots] if plan.seats is None else x.index_select(0, plan.seats)
        bottleneck = torch.bmm(rows.view(num_slots, -1, x.shape[-1]), table.a[:num_slots])
        for b, rank, offset, columns in zip(table.b, table.ranks, table.offsets, self._site.columns, strict=True):
            if rank == 0:
                continue
            added = torch.bmm(bottleneck[..., offset : offset + rank], b[:num_slots]).view(-1, b.shape[-1])
            y[: plan.num_seated, columns].add_(added if plan.seated is None else added.index_select(0, plan.seated))


def apply(delta: Delta, site: Site, x: Tensor, y: Tensor) -> None:
    """One adapter's stretch of tokens. x: what the site was given; y: the base's product, changed in place."""
    if delta.replacement is not None:
        y.copy_(functional.linear(x, delta.replacement, site.bias))
    if delta.gain is not None:
        regain(y, delta.gain, site.bias)
    if delta.parts:
        bottleneck = torch.mm(x, delta.a)
        for part in delta.parts:
            y[:, site.columns[part.sibling]].add_(torch.mm(bottleneck[:, part.start : part.stop], part.b))
    if delta.bias is not None:
        y.add_(delta.bias)


def regain(y: Tensor, gain: Tensor, bias: Tensor | None) -> None:
    """Scale what the weight gave, but not the base's bias. Computed in float32; mutates y."""
    if bias is None:
        y.copy_(y * gain)
    else:
        y.copy_((y - bias.float()) * gain + bias)


def _of_slots(rows: Tensor, plan: Plan) -> Tensor:
    """Each seated token's row of a packed (capacity, width) tensor."""
    return rows[: plan.num_seated] if plan.seats is None else rows.index_select(0, plan.slots.to(rows.device))


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
