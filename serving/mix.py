"""A weighted mix of adapters as one adapter: the base, plus each part's change times its weight. Knows no batch.

With y_i what part i alone would give at some linear, and y the base, the mix gives y + sum of w_i (y_i - y). Low-rank
changes, biases and gains add up; what would not be the sum of its parts is refused.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import permutations

import torch
from torch import Tensor

from registry.canonical import canonical, sha256
from registry.errors import Invalid, Refused
from serving.adapter import LoadedAdapter
from serving.base import Base, Site
from serving.delta import Delta, Part
from serving.mix_embedding import combine_embeddings

Weighted = tuple[str, Delta, float]
"""Whose change, and how much of it."""


def mix(base: Base, parts: Sequence[tuple[LoadedAdapter, float]]) -> LoadedAdapter:
    """Invalid if there is nothing to mix, Refused naming the adapters that cannot be mixed. Its digest says of what."""
    members = _members(parts)
    if len(members) == 1 and members[0].weight == 1:
        return members[0].adapter
    digest = mix_digest([(member.adapter.digest, member.weight) for member in members])
    changes: dict[int, list[Weighted]] = defaultdict(list)
    for member in members:
        for index, delta in member.adapter.deltas.items():
            changes[index].append((member.adapter.name, delta, member.weight))
    deltas = {site.index: _combine(site, changes[site.index]) for site in base.sites if site.index in changes}
    heads = [(each.adapter.name, each.adapter.head, each.weight) for each in members if each.adapter.head is not None]
    embeddings = [
        (each.adapter.name, each.adapter.embedding, each.weight)
        for each in members
        if each.adapter.embedding is not None
    ]
    return LoadedAdapter.make(
        digest,
        " + ".join(f"{member.weight:g} {member.adapter.name}" for member in members),
        deltas,
        head=_combine(base.head, heads) if heads else None,
        embedding=combine_embeddings(base, embeddings) if embeddings else None,
        virtual=_virtual(members),
    )


def mix_digest(parts: Iterable[tuple[str, float]]) -> str:
    """The identity of a mix of distinct digests, whatever the order they are given in."""
    return "mix:" + sha256(canonical([[digest, weight] for digest, weight in sorted(parts)]))


@dataclass(frozen=True)
class _Member:
    adapter: LoadedAdapter
    weight: float


def _members(parts: Iterable[tuple[LoadedAdapter, float]]) -> list[_Member]:
    """Each adapter once, in the order of their digests: the order they were given in does not matter."""
    adapters: dict[str, LoadedAdapter] = {}
    weights: dict[str, float] = defaultdict(float)
    for adapter, weight in parts:
        if not math.isfinite(weight):
            raise Invalid(f"the weight of {adapter.name} is {weight}", param="adapters")
        adapters[adapter.digest] = adapter
        weights[adapter.digest] += weight
    if not adapters:
        raise Invalid("a mix needs at least one adapter", param="adapters")
    return [_Member(adapters[digest], weights[digest]) for digest in sorted(adapters)]


def _combine(site: Site, members: Sequence[Weighted]) -> Delta:
    _refuse_input_gain_beside_others(site, members)
    a, parts = _side_by_side(site, members)
    gains, replacement = _gains_and_replacement(site, members)
    return Delta(
        a=a,
        parts=parts,
        gain=_weighted_sum(gains, around=1),
        bias=_weighted_sum([(delta.bias, weight) for _, delta, weight in members], around=0),
        input_gain=_weighted_sum([(delta.input_gain, weight) for _, delta, weight in members], around=1),
        replacement=replacement,
    )


def _refuse_input_gain_beside_others(site: Site, members: Sequence[Weighted]) -> None:
    scaling = [name for name, delta, _ in members if delta.input_gain is not None]
    others = [name for name, delta, _ in members if delta.gain is not None or delta.replacement is not None]
    if scaling and others:
        raise Refused(
            f"cannot mix {scaling[0]} with {others[0]}: one scales the input of {', '.join(site.names)}, the other its "
            "output or weight",
        )


def _side_by_side(site: Site, members: Sequence[Weighted]) -> tuple[Tensor, tuple[Part, ...]]:
    """All low-rank changes next to each other, so that one sibling still has one part."""
    columns: dict[int, list[Tensor]] = defaultdict(list)
    rows: dict[int, list[Tensor]] = defaultdict(list)
    for _, delta, weight in members:
        for part in delta.parts:
            columns[part.sibling].append(delta.a[:, part.start : part.stop])
            rows[part.sibling].append((part.b.float() * weight).to(part.b.dtype))
    parts, start = [], 0
    for sibling in sorted(columns):
        b = torch.cat(rows[sibling])
        parts.append(Part(sibling, start, start + len(b), b))
        start += len(b)
    sides = [column for sibling in sorted(columns) for column in columns[sibling]]
    empty = site.weight.new_zeros(site.in_features, 0)
    return (torch.cat(sides, dim=1).contiguous() if sides else empty), tuple(parts)


def _gains_and_replacement(
    site: Site, members: Sequence[Weighted]
) -> tuple[list[tuple[Tensor | None, float]], Tensor | None]:
    """Rows of the weight that one adapter replaces can be neither replaced nor scaled by another."""
    if all(delta.replacement is None for _, delta, _ in members):
        return [(delta.gain, weight) for _, delta, weight in members], None
    old = site.weight.float()
    mixed, gains, owned, touched = old.clone(), [], [], []
    for _, delta, weight in members:
        gain, own = delta.gain, torch.zeros(len(old), dtype=torch.bool, device=old.device)
        if delta.replacement is not None:
            own = (delta.replacement != site.weight).any(dim=1)
            scale = 1 if gain is None else gain[own, None]
            mixed[own] += weight * (delta.replacement[own].float() * scale - old[own])
            gain = None if gain is None else gain.masked_fill(own, 1)
        gains.append((gain, weight))
        owned.append(own)
        touched.append(own if gain is None else own | (gain != 1))
    _refuse_overlap(site, [name for name, _, _ in members], owned, touched)
    return gains, mixed.to(site.weight.dtype)


def _refuse_overlap(site: Site, names: Sequence[str], owned: Sequence[Tensor], touched: Sequence[Tensor]) -> None:
    for one, other in permutations(range(len(names)), 2):
        for sibling, rows in zip(site.names, site.columns, strict=True):
            if bool((owned[one][rows] & touched[other][rows]).any()):
                raise Refused(
                    f"cannot mix {names[one]} with {names[other]}: one replaces {sibling}, which the other changes too"
                )


def _weighted_sum(terms: Sequence[tuple[Tensor | None, float]], around: float) -> Tensor | None:
    """around + sum of weight * (term - around); None if there is no term."""
    present = [(term, weight) for term, weight in terms if term is not None]
    if not present:
        return None
    total = torch.full_like(present[0][0], around)
    for term, weight in present:
        total += weight * (term - around)
    return total


def _virtual(members: Sequence[_Member]) -> Tensor | None:
    prompts = [member for member in members if member.adapter.virtual is not None]
    if not prompts:
        return None
    if len(prompts) > 1:
        names = " and ".join(member.adapter.name for member in prompts[:2])
        raise Refused(f"cannot mix {names}: both put virtual tokens before the prompt")
    if prompts[0].weight != 1:
        raise Refused(
            f"cannot mix {prompts[0].adapter.name} by {prompts[0].weight:g}: a soft prompt has weight 1 or none"
        )
    return prompts[0].adapter.virtual
