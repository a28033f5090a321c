"""/v1/embeddings on the wire."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from serving.gateway.wire.generation import Choosing
from serving.gateway.wire.values import Count


class EmbeddingRequest(Choosing, frozen=True, kw_only=True):
    """`input` is a text, token ids, or up to 2,048 of either; `dimensions` can only be what the model has."""

    input: str | list[Any]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Count | None = None


class Embedding(msgspec.Struct, frozen=True, kw_only=True):
    """A vector of length 1; as base64, of little-endian 32-bit floats."""

    index: int
    embedding: list[float] | str
    object: Literal["embedding"] = "embedding"


class EmbeddingUsage(msgspec.Struct, frozen=True, kw_only=True):
    prompt_tokens: int
    total_tokens: int


class EmbeddingList(msgspec.Struct, frozen=True, kw_only=True):
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage
    object: Literal["list"] = "list"
