"""The input embedding's part of a mix: the base's embedding, plus each change of it times its weight."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from registry.errors import Refused
from serving.base import Base
from serving.delta import EmbeddingDelta

Weighted = tuple[str, EmbeddingDelta, float]


def combine_embeddings(base: Base, members: Sequence[Weighted]) -> EmbeddingDelta:
    """Refused where one adapter replaces the embedding and another scales or replaces it."""
    replacing = [name for name, delta, _ in members if delta.replacement is not None]
    scaling = [name for name, delta, _ in members if delta.gain is not None and name not in replacing]
    if replacing and len(replacing) + len(scaling) > 1:
        names = " with ".join([*replacing, *scaling][:2])
        raise Refused(f"cannot mix {names}: one replaces {base.embedding_name}, which the other changes too")
    tokens, rows = _token_rows(members)
    return EmbeddingDelta(
        a=_beside([delta.a for _, delta, _ in members], dim=1),
        b=_beside([None if delta.b is None else _scaled(delta.b, weight) for _, delta, weight in members], dim=0),
        gain=None if replacing else _gain(members),
        replacement=_replacement(base, members) if replacing else None,
        tokens=tokens,
        rows=rows,
    )


def _replacement(base: Base, members: Sequence[Weighted]) -> Tensor:
    _, delta, weight = next(member for member in members if member[1].replacement is not None)
    assert delta.replacement is not None
    old = base.input_embeddings.float() * base.embedding_scale
    new = delta.replacement.float() * (1 if delta.gain is None else delta.gain)
    return (old + weight * (new - old)).to(base.dtype)


def _gain(members: Sequence[Weighted]) -> Tensor | None:
    gains = [(delta.gain, weight) for _, delta, weight in members if delta.gain is not None]
    if not gains:
        return None
    return torch.stack([weight * (gain - 1) for gain, weight in gains]).sum(dim=0) + 1


def _token_rows(members: Sequence[Weighted]) -> tuple[Tensor | None, Tensor | None]:
    """What is added to single tokens' embeddings; a token that several change gets the sum."""
    listed = [(delta.tokens, delta.rows, weight) for _, delta, weight in members if delta.tokens is not None]
    if not listed:
        return None, None
    tokens, places = torch.unique(torch.cat([tokens for tokens, _, _ in listed]), return_inverse=True)
    added = torch.cat([rows * weight for _, rows, weight in listed if rows is not None])
    return tokens, added.new_zeros(len(tokens), added.shape[1]).index_add_(0, places, added)


def _beside(tensors: Sequence[Tensor | None], dim: int) -> Tensor | None:
    present = [tensor for tensor in tensors if tensor is not None]
    return torch.cat(present, dim=dim).contiguous() if present else None


def _scaled(values: Tensor, weight: float) -> Tensor:
    return (values.float() * weight).to(values.dtype)
