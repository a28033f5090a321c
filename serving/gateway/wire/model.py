"""/v1/models on the wire."""

from __future__ import annotations

from typing import Literal

import msgspec


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """`root` is the identity behind the name: a version's digest, or the weights' digest for the base."""

    id: str
    created: int
    owned_by: str
    root: str
    parent: str | None
    version: int | None = None
    max_model_len: int = 0
    object: Literal["model"] = "model"


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    data: list[ModelCard]
    object: Literal["list"] = "list"
