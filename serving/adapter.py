"""A LoRA adapter in memory. Reads PEFT's format; knows no batch and no registry."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from registry.errors import Corrupt, Invalid, NotFound, Refused
from serving.base import Base, Site
from serving.delta import Delta, EmbeddingDelta, Part

__all__ = ["Delta", "EmbeddingDelta", "LoadedAdapter", "Part"]

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
PREFIX = "base_model.model."
KEY = re.compile(r"^base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])(\.default)?\.weight$")

DEFAULTS: dict[str, object] = {
    "use_dora": False,
    "bias": "none",
    "lora_bias": False,
    "modules_to_save": None,
    "fan_in_fan_out": False,
    "trainable_token_indices": None,
    "target_parameters": None,
    "layer_replication": None,
    "megatron_config": None,
}
"""Options that change what an adapter computes, and the only values of them that are applied exactly."""


@dataclass(frozen=True, eq=False)
class LoadedAdapter:
    """An adapter ready to serve. `deltas` maps a decoder site's index to what is changed there."""

    digest: str
    name: str
    deltas: Mapping[int, Delta]
    num_bytes: int
    head: Delta | None = None
    """At the output embedding, `Base.head`."""
    embedding: EmbeddingDelta | None = None
    virtual: Tensor | None = None
    """(num_virtual, hidden_size): embeddings that go before every prompt."""

    @property
    def num_virtual(self) -> int:
        return 0 if self.virtual is None else len(self.virtual)

    @classmethod
    def from_directory(
        cls, path: Path, base: Base, digest: str | None = None, name: str | None = None
    ) -> LoadedAdapter:
        """Read a PEFT directory. NotFound, Corrupt, Invalid or Refused name the file or tensor that is to blame."""
        config = _read_config(path / CONFIG)
        pairs = _read_pairs(path / WEIGHTS)
        _check_modules(pairs, base)
        deltas = {site.index: delta for site in base.sites if (delta := _delta(site, pairs, config, base))}
        size = sum(delta.num_bytes for delta in deltas.values())
        return cls(digest or f"directory:{path.resolve()}", name or path.name, deltas, size)


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise NotFound(f"{path} does not exist")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise Corrupt(f"{path} cannot be read: {error}") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise Refused(f"{path}: only LoRA adapters can be applied")
    for option, only in DEFAULTS.items():
        if (config.get(option) or only) != only:
            raise Refused(f"{path}: {option}={config[option]!r} cannot be applied exactly")
    return config


def _read_pairs(path: Path) -> dict[str, dict[str, Tensor]]:
    """Module name -> {"A": (r, in), "B": (out, r)}, checked to be finite."""
    if not path.is_file():
        raise NotFound(f"{path} does not exist")
    pairs: dict[str, dict[str, Tensor]] = {}
    try:
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118
                match = KEY.match(key)
                if match is None:
                    raise Refused(f"tensor {key} in {path.name} cannot be applied: it is no LoRA pair of a linear")
                tensor = file.get_tensor(key).to(torch.float32)
                if not bool(torch.isfinite(tensor).all()):
                    raise Refused(f"tensor {key} in {path.name} is not finite")
                pairs.setdefault(match["module"], {})[match["side"]] = tensor
    except (SafetensorError, OSError) as error:
        raise Corrupt(f"{path} cannot be read: {error}") from error
    return pairs


def _check_modules(pairs: Mapping[str, Mapping[str, Tensor]], base: Base) -> None:
    for module, pair in pairs.items():
        shape = base.profile.linears.get(module)
        if shape is None:
            raise Refused(f"adapter targets {module}, which is no linear of base {base.profile.identity.id}")
        if set(pair) != {"A", "B"}:
            raise Corrupt(f"adapter holds only lora_{next(iter(pair))} of {module}")
        found = (int(pair["B"].shape[0]), int(pair["A"].shape[1]))
        if found != tuple(shape) or pair["A"].shape[0] != pair["B"].shape[1]:
            raise Refused(f"adapter tensor of {module} has shape {found}, the base needs {tuple(shape)}")


def _delta(
    site: Site, pairs: Mapping[str, Mapping[str, Tensor]], config: Mapping[str, Any], base: Base
) -> Delta | None:
    columns: list[Tensor] = []
    parts: list[Part] = []
    start = 0
    for sibling, module in enumerate(site.names):
        if module not in pairs:
            continue
        a, b = pairs[module]["A"], pairs[module]["B"]
        rank = int(a.shape[0])
        scaled = (b * scale(config, module, rank)).to(base.dtype)
        if not bool(torch.isfinite(scaled).all()):
            raise Refused(f"lora_B of {module} overflows {base.dtype} when scaled")
        columns.append(a.t())
        parts.append(Part(sibling, start, start + rank, scaled.t().contiguous().to(base.device)))
        start += rank
    if not parts:
        return None
    return Delta(torch.cat(columns, dim=1).to(base.dtype).contiguous().to(base.device), tuple(parts))


def scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    """PEFT's alpha / r, or alpha / sqrt(r) for rank-stabilised LoRA; alpha from `alpha_pattern` where it matches."""
    patterns: Mapping[str, float] = config.get("alpha_pattern") or {}
    try:
        named = next((alpha for key, alpha in patterns.items() if re.match(rf"(.*\.)?({key})$", module)), None)
    except re.error as error:
        raise Invalid(f"alpha_pattern is no regular expression: {error}") from error
    alpha = float(config.get("lora_alpha", 8) if named is None else named)
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
