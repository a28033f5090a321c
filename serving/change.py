"""What an adapter does to one linear, and how the changes of siblings become one site's delta.

Every kind of adapter is first told as a change; only here does it meet the layout of the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from registry.errors import Refused
from serving.base import Site
from serving.delta import Delta, Part
from serving.finite import is_finite
from serving.native import adopt


@dataclass(frozen=True, eq=False)
class Change:
    """y = gain * (W (input_gain * x)) + base bias + (x a') scale b' + bias, for one linear. W may be replaced.

    In float32, but for a and b, which may have the type they were stored in.
    """

    a: Tensor | None = None
    """(rank, in_features), as PEFT stores it"""
    b: Tensor | None = None
    """(out_features, rank), to be scaled by `scale`"""
    scale: float = 1.0
    gain: Tensor | None = None
    bias: Tensor | None = None
    input_gain: Tensor | None = None
    replacement: Tensor | None = None
    """(out_features, in_features)"""

    @property
    def is_empty(self) -> bool:
        return all(part is None for part in (self.a, self.gain, self.bias, self.input_gain, self.replacement))


def fuse(site: Site, changes: Mapping[int, Change]) -> Delta:
    """The changes of a site's linears, by sibling, as one delta in the base's type and on its device."""
    changes = _fold_lone_input_gains(site, changes)
    first = next(iter(changes.values()))
    a, parts = _side_by_side(site, changes)
    return Delta(
        a=a,
        parts=parts,
        gain=_one_after_another(site, {sibling: change.gain for sibling, change in changes.items()}, absent=1),
        bias=_one_after_another(site, {sibling: change.bias for sibling, change in changes.items()}, absent=0),
        input_gain=None if first.input_gain is None else first.input_gain.to(site.weight.device),
        replacement=_replacement(site, changes),
    )


def weight_of(site: Site, sibling: int) -> Tensor:
    """(out_features, in_features) of one linear, as the base has it."""
    return site.weight[site.columns[sibling]]


def bias_of(site: Site, sibling: int) -> Tensor:
    """(out_features,) float32; zeros where the base has none."""
    if site.bias is None:
        return torch.zeros(site.out_features[sibling], device=site.weight.device)
    return site.bias[site.columns[sibling]].float()


def _fold_lone_input_gains(site: Site, changes: Mapping[int, Change]) -> Mapping[int, Change]:
    """Siblings share an input. A scale that they do not share goes into a replacement of the sibling's weight."""
    gains = [change.input_gain for change in changes.values()]
    if all(gain is None for gain in gains):
        return changes
    first = gains[0]
    is_shared = len(changes) == len(site.names) and all(change.replacement is None for change in changes.values())
    if is_shared and first is not None and all(gain is not None and torch.equal(gain, first) for gain in gains):
        return changes
    return {sibling: _fold_input_gain(change, site, sibling) for sibling, change in changes.items()}


def _fold_input_gain(change: Change, site: Site, sibling: int) -> Change:
    if change.input_gain is None:
        return change
    weight = weight_of(site, sibling).float() if change.replacement is None else change.replacement
    return replace(change, input_gain=None, replacement=weight * change.input_gain)


def _replacement(site: Site, changes: Mapping[int, Change]) -> Tensor | None:
    if all(change.replacement is None for change in changes.values()):
        return None
    whole = site.weight.clone(memory_format=torch.contiguous_format)
    for sibling, change in changes.items():
        if change.replacement is not None:
            whole[site.columns[sibling]] = _cast(change.replacement, site, sibling)
    return whole


def _side_by_side(site: Site, changes: Mapping[int, Change]) -> tuple[Tensor, tuple[Part, ...]]:
    """All low-rank changes of a site: transposed, scaled and rounded in one pass each."""
    ranks = {sibling: 0 if change.a is None else change.a.shape[0] for sibling, change in changes.items()}
    a, parts, start = site.weight.new_empty(site.in_features, sum(ranks.values())), [], 0
    for sibling, change in sorted(changes.items()):
        if change.a is None or change.b is None:
            continue
        stop, b = start + ranks[sibling], site.weight.new_empty(change.b.shape[::-1])
        if not (adopt(change.a, 1.0, a[:, start:stop]) and adopt(change.b, change.scale, b)):
            raise _not_finite(site, sibling)
        parts.append(Part(sibling, start, stop, b))
        start = stop
    return a, tuple(parts)


def _one_after_another(site: Site, rows: Mapping[int, Tensor | None], absent: float) -> Tensor | None:
    if all(row is None for row in rows.values()):
        return None
    whole = torch.full((sum(site.out_features),), float(absent), device=site.weight.device)
    for sibling, row in rows.items():
        if row is not None:
            whole[site.columns[sibling]] = row.to(site.weight.device)
    return whole


def _cast(values: Tensor, site: Site, sibling: int) -> Tensor:
    return _checked(values.to(site.weight.device, site.weight.dtype), site, sibling)


def _checked(values: Tensor, site: Site, sibling: int) -> Tensor:
    if not is_finite(values):
        raise _not_finite(site, sibling)
    return values


def _not_finite(site: Site, sibling: int) -> Refused:
    return Refused(f"the adapter's weights of {site.names[sibling]} are not finite in {site.weight.dtype}")
