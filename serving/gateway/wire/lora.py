"""vLLM's verbs for loading and unloading adapters, on the wire."""

from __future__ import annotations

import msgspec


class LoadLora(msgspec.Struct, frozen=True, kw_only=True):
    """`lora_path` is a reference into the registry, and `lora_name` a name of what it refers to."""

    lora_name: str = ""
    lora_path: str = ""
    load_inplace: bool = False


class UnloadLora(msgspec.Struct, frozen=True, kw_only=True):
    lora_name: str = ""


class LoraErrorDetail(msgspec.Struct, frozen=True, kw_only=True):
    """vLLM's `code` is the status."""

    message: str
    type: str
    param: str | None = None
    code: int


class LoraError(msgspec.Struct, frozen=True, kw_only=True):
    error: LoraErrorDetail
