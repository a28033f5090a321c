"""What an adapter file does to the input embedding: low rank, DoRA, all of it anew, or other rows for some tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from registry.errors import Refused
from registry.layout import TOKENS, Module, listed_tokens
from serving.adapter_file import AdapterFile
from serving.base import Base
from serving.delta import EmbeddingDelta
from serving.dora import row_gain
from serving.finite import is_finite


def embedding_delta(file: AdapterFile, module: Module, base: Base, copied: Tensor | None) -> EmbeddingDelta:
    """`copied` is what the file has instead of the base's embedding, if so."""
    if (rows := file.part(module, TOKENS)) is not None:
        return trained_rows(rows, listed_tokens(module.name, file.config, base.profile), base)
    return _low_rank(file, module, base, copied)


def replaced(weight: Tensor, base: Base) -> EmbeddingDelta:
    """weight: (vocabulary, hidden_size)"""
    return EmbeddingDelta(replacement=_cast(weight * base.embedding_scale, base))


def trained_rows(rows: Tensor, tokens: tuple[int, ...], base: Base) -> EmbeddingDelta:
    """rows: (n, hidden_size), the embeddings of these tokens instead of the base's."""
    places, order = torch.sort(torch.tensor(tokens, device=base.device))
    old = base.input_embeddings.index_select(0, places).float()
    return EmbeddingDelta(tokens=places, rows=(rows.to(base.device)[order] - old) * base.embedding_scale)


def _low_rank(file: AdapterFile, module: Module, base: Base, copied: Tensor | None) -> EmbeddingDelta:
    """DoRA's magnitudes are of the hidden dimensions here: rows of the transposed embedding."""
    a = file.need(module, "lora_embedding_A").to(base.device)
    b = file.need(module, "lora_embedding_B").to(base.device) * file.config.scaling_of(module.name)
    gain = None
    if (magnitude := file.part(module, "lora_magnitude_vector")) is not None:
        weight = base.input_embeddings if copied is None else copied
        gain = row_gain(weight.t(), b @ a, magnitude.to(base.device))
        b = b * gain[:, None]
    return EmbeddingDelta(
        a=_cast(a.t(), base),
        b=_cast(b.t() * base.embedding_scale, base),
        gain=gain,
        replacement=None if copied is None else _cast(copied * base.embedding_scale, base),
    )


def _cast(values: Tensor, base: Base) -> Tensor:
    cast = values.to(base.device, base.dtype).contiguous()
    if not is_finite(cast):
        raise Refused(f"the adapter's weights of {base.embedding_name} are not finite in {base.dtype}")
    return cast
