"""PEFT's `adapter_config.json`, read strictly: what the engine can apply passes, all else is refused by key.

Knows PEFT's matching rules for ranks, alphas and targets; sees no tensors and no base.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import msgspec

from registry.errors import Refused, Unavailable

CONFIG_FILE = "adapter_config.json"
MAX_CONFIG_BYTES = 1 << 20
_LITERAL = re.compile(r"[A-Za-z0-9_.]+")

# Keys that do not change what the adapter computes at inference.
_HARMLESS = {
    "auto_mapping", "base_model_name_or_path", "inference_mode", "lora_dropout", "peft_version", "revision",
    "loftq_config", "eva_config", "corda_config", "lora_ga_config", "megatron_core", "qalora_group_size",
    "runtime_config", "ensure_weight_tying",
}  # fmt: skip
# These initialisations rewrite the base weights too: the delta alone would be applied to the wrong base.
_REWRITES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


class AdapterConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The part of PEFT's config that the engine applies."""

    peft_type: str
    target_modules: tuple[str, ...]
    r: int = 8
    lora_alpha: float = 8
    use_rslora: bool = False
    rank_pattern: dict[str, int] = {}
    alpha_pattern: dict[str, float] = {}
    exclude_modules: tuple[str, ...] | None = None
    layers_to_transform: tuple[int, ...] | int | None = None
    layers_pattern: tuple[str, ...] | str | None = None
    base_model_name_or_path: str | None = None
    task_type: str | None = None
    bias: str = "none"
    init_lora_weights: bool | str | None = True

    def rank_of(self, module: str) -> int:
        return self.rank_pattern.get(_pattern(self.rank_pattern, module), self.r)

    def alpha_of(self, module: str) -> float:
        return self.alpha_pattern.get(_pattern(self.alpha_pattern, module), self.lora_alpha)

    def scaling_of(self, module: str) -> float:
        """The factor on B @ A: alpha / r, or alpha / sqrt(r) for rank-stabilised LoRA."""
        rank = self.rank_of(module)
        return self.alpha_of(module) / (math.sqrt(rank) if self.use_rslora else rank)

    def targets(self, module: str) -> bool:
        """Whether PEFT would put this module's weights to use."""
        if any(_ends(module, name) for name in self.exclude_modules or ()):
            return False
        if module in self.target_modules:
            return True
        return any(_ends(module, name) for name in self.target_modules) and self._in_layers(module)

    def _in_layers(self, module: str) -> bool:
        wanted = self.layers_to_transform
        if wanted is None or wanted == ():
            return True
        layers = (wanted,) if isinstance(wanted, int) else wanted
        patterns = (self.layers_pattern,) if isinstance(self.layers_pattern, str) else self.layers_pattern
        for pattern in patterns or (r"[^.]*",):
            if found := re.match(rf"(?:^|.*?\.){pattern}\.(\d+)\.", module):
                return int(found[1]) in layers
        return False


def read_adapter_config(path: Path) -> AdapterConfig:
    """Parse and refuse by key everything plain LoRA on linears cannot express."""
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise Refused(f"{path.name} is larger than {MAX_CONFIG_BYTES} bytes")
        values = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except OSError as error:
        raise Unavailable(f"cannot read {path}: {error.strerror or error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(f"{path.name} is not a JSON object: {error}") from error
    _refuse_keys(path.name, values)
    try:
        config = msgspec.convert({key: value for key, value in values.items() if value is not None}, AdapterConfig)
    except msgspec.ValidationError as error:
        raise Refused(f"{path.name}: {error}") from error
    _refuse_values(path.name, config)
    return config


def _refuse_keys(file_name: str, values: dict[str, Any]) -> None:
    if "auto_map" in values or (isinstance(values.get("auto_mapping"), dict) and "auto_map" in values["auto_mapping"]):
        raise Refused(f"{file_name}: auto_map names code to run; adapters are data only")
    if values.get("peft_type") != "LORA":
        raise Refused(f"{file_name}: peft_type is {values.get('peft_type')!r}; only LORA can be served")
    known = {*AdapterConfig.__struct_fields__, *_HARMLESS}
    for key in sorted(values):
        if key not in known and values[key]:
            raise Refused(f"{file_name}: {key} is set; the engine cannot apply it")
    targets = values.get("target_modules")
    if not isinstance(targets, list) or not targets:
        raise Refused(f"{file_name}: target_modules must be a list of module names, not {targets!r}")


def _refuse_values(file_name: str, config: AdapterConfig) -> None:
    if config.task_type not in (None, "CAUSAL_LM"):
        raise Refused(f"{file_name}: task_type is {config.task_type!r}; only CAUSAL_LM can be served")
    if config.bias != "none":
        raise Refused(f"{file_name}: bias is {config.bias!r}; the engine cannot apply trained biases")
    if isinstance(config.init_lora_weights, str) and config.init_lora_weights.startswith(_REWRITES_BASE):
        raise Refused(
            f"{file_name}: init_lora_weights is {config.init_lora_weights!r}, which changes the base weights",
            hint="convert it with path_initial_model_for_weight_conversion",
        )
    patterns = config.layers_pattern
    names = {
        "target_modules": config.target_modules,
        "exclude_modules": config.exclude_modules or (),
        "rank_pattern": tuple(config.rank_pattern),
        "alpha_pattern": tuple(config.alpha_pattern),
        "layers_pattern": (patterns,) if isinstance(patterns, str) else patterns or (),
    }
    for key, values in names.items():
        for value in values:
            if not _LITERAL.fullmatch(value):
                raise Refused(f"{file_name}: {key} holds the pattern {value!r}; write plain module names")
    if min([config.r, *config.rank_pattern.values()]) < 1:
        raise Refused(f"{file_name}: every rank must be at least 1")
    if not all(math.isfinite(alpha) for alpha in [config.lora_alpha, *config.alpha_pattern.values()]):
        raise Refused(f"{file_name}: every alpha must be finite")


def _pattern(patterns: dict[str, Any], module: str) -> str:
    """The first pattern that PEFT would match."""
    return next((pattern for pattern in patterns if _ends(module, pattern)), module)


def _ends(module: str, name: str) -> bool:
    return module == name or module.endswith("." + name)
