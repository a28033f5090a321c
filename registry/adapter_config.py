"""PEFT's `adapter_config.json`, read strictly: what the engine can apply passes, all else is refused by key.

Knows PEFT's matching rules for ranks, alphas and targets; sees no tensors and no base.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import msgspec

from registry.errors import Refused, Unavailable
from registry.patterns import LITERAL, check_pattern, ends_with, layer_of, matches, matches_end

CONFIG_FILE = "adapter_config.json"
MAX_CONFIG_BYTES = 1 << 20

_COMMON = {"peft_type", "task_type", "base_model_name_or_path", "modules_to_save"}
_TARGETING = {"target_modules", "exclude_modules", "fan_in_fan_out"}
# What changes the output, by kind of adapter.
_KEYS = {
    "LORA": _COMMON | _TARGETING | {
        "r", "lora_alpha", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "layers_to_transform",
        "layers_pattern", "bias", "lora_bias", "init_lora_weights", "trainable_token_indices",
    },
    "IA3": _COMMON | _TARGETING | {"feedforward_modules"},
    "PROMPT_TUNING": _COMMON | {"num_virtual_tokens", "token_dim", "num_transformer_submodules"},
}  # fmt: skip
# Keys that do not change what the adapter computes at inference.
_HARMLESS = {
    "auto_mapping", "inference_mode", "lora_dropout", "peft_version", "revision", "loftq_config", "eva_config",
    "corda_config", "lora_ga_config", "megatron_core", "qalora_group_size", "runtime_config", "ensure_weight_tying",
    "init_ia3_weights", "prompt_tuning_init", "prompt_tuning_init_text", "tokenizer_name_or_path",
    "tokenizer_kwargs", "num_attention_heads", "num_layers",
}  # fmt: skip
# These initialisations rewrite the base weights too: the delta alone would be applied to the wrong base.
_REWRITES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


class AdapterConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The part of PEFT's config that the engine applies."""

    peft_type: Literal["LORA", "IA3", "PROMPT_TUNING"]
    target_modules: tuple[str, ...] | str = ()
    r: int = 8
    lora_alpha: float = 8
    use_rslora: bool = False
    use_dora: bool = False
    rank_pattern: dict[str, int] = {}
    alpha_pattern: dict[str, float] = {}
    exclude_modules: tuple[str, ...] | str | None = None
    layers_to_transform: tuple[int, ...] | int | None = None
    layers_pattern: tuple[str, ...] | str | None = None
    base_model_name_or_path: str | None = None
    task_type: str | None = None
    bias: Literal["none", "all", "lora_only"] = "none"
    lora_bias: bool = False
    init_lora_weights: bool | str | None = True
    modules_to_save: tuple[str, ...] = ()
    trainable_token_indices: tuple[int, ...] | dict[str, tuple[int, ...]] | None = None
    feedforward_modules: tuple[str, ...] | str = ()
    num_virtual_tokens: int = 0
    token_dim: int | None = None
    num_transformer_submodules: int = 1

    @property
    def method(self) -> str:
        """What the manifest calls this kind of adapter."""
        if self.peft_type == "LORA":
            return "dora" if self.use_dora else "rslora" if self.use_rslora else "lora"
        return self.peft_type.lower().replace("_", "-")

    def rank_of(self, module: str) -> int:
        return next((rank for key, rank in self.rank_pattern.items() if matches_end(key, module)), self.r)

    def alpha_of(self, module: str) -> float:
        return next((alpha for key, alpha in self.alpha_pattern.items() if matches_end(key, module)), self.lora_alpha)

    def scaling_of(self, module: str) -> float:
        """The factor on B @ A: alpha / r, or alpha / sqrt(r) for rank-stabilised LoRA."""
        rank = self.rank_of(module)
        return self.alpha_of(module) / (math.sqrt(rank) if self.use_rslora else rank)

    def targets(self, module: str) -> bool:
        """Whether PEFT would put this module's weights to use."""
        excluded = self.exclude_modules or ()
        if matches(excluded, module) if isinstance(excluded, str) else ends_with(module, excluded):
            return False
        if self.saves(module):
            return False
        if isinstance(self.target_modules, str):
            return matches(self.target_modules, module)
        if module in self.target_modules:
            return True
        return ends_with(module, self.target_modules) and self._in_layers(module)

    def saves(self, module: str) -> bool:
        """Whether the adapter holds this module whole."""
        return ends_with(module, self.modules_to_save)

    def is_feedforward(self, module: str) -> bool:
        """Whether IA3 scales this module's input, not its output."""
        if isinstance(self.feedforward_modules, str):
            return matches(self.feedforward_modules, module)
        return any(module.endswith(name) for name in self.feedforward_modules)

    def _in_layers(self, module: str) -> bool:
        wanted = self.layers_to_transform
        if wanted is None or wanted == ():
            return True
        layers = (wanted,) if isinstance(wanted, int) else wanted
        patterns = (self.layers_pattern,) if isinstance(self.layers_pattern, str) else self.layers_pattern
        found = [layer_of(module, pattern) for pattern in patterns or (None,)]
        return next((layer for layer in found if layer is not None), None) in layers


def read_adapter_config(path: Path) -> AdapterConfig:
    """Parse, and refuse by key everything that the engine would not apply as PEFT does."""
    return parse_adapter_config(path.name, raw_adapter_config(path))


def raw_adapter_config(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise Refused(f"{path.name} is larger than {MAX_CONFIG_BYTES} bytes")
        return path.read_bytes()
    except OSError as error:
        raise Unavailable(f"cannot read {path}: {error.strerror or error}") from error


def parse_adapter_config(file_name: str, raw: bytes) -> AdapterConfig:
    """As `read_adapter_config`, of what a file of that name holds."""
    try:
        values = msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(f"{file_name} is not a JSON object: {error}") from error
    _refuse_keys(file_name, values)
    try:
        config = msgspec.convert({key: value for key, value in values.items() if value is not None}, AdapterConfig)
    except msgspec.ValidationError as error:
        raise Refused(f"{file_name}: {error}") from error
    _refuse_values(file_name, config)
    _refuse_names(file_name, config)
    return config


def _refuse_keys(file_name: str, values: dict[str, Any]) -> None:
    if "auto_map" in values or (isinstance(values.get("auto_mapping"), dict) and "auto_map" in values["auto_mapping"]):
        raise Refused(f"{file_name}: auto_map names code to run; adapters are data only")
    kind = values.get("peft_type")
    if kind not in _KEYS:
        raise Refused(f"{file_name}: peft_type is {kind!r}; only {', '.join(_KEYS)} can be served")
    for key in sorted(values):
        if key not in _KEYS[kind] | _HARMLESS and values[key]:
            raise Refused(f"{file_name}: {key} is set; the engine cannot apply it")
    targets = values.get("target_modules")
    if kind != "PROMPT_TUNING" and (not isinstance(targets, (list, str)) or not targets or targets == "all-linear"):
        raise Refused(f"{file_name}: target_modules must name modules, not {targets!r}")


def _refuse_values(file_name: str, config: AdapterConfig) -> None:
    if config.task_type not in (None, "CAUSAL_LM"):
        raise Refused(f"{file_name}: task_type is {config.task_type!r}; only CAUSAL_LM can be served")
    if isinstance(config.init_lora_weights, str) and config.init_lora_weights.startswith(_REWRITES_BASE):
        raise Refused(
            f"{file_name}: init_lora_weights is {config.init_lora_weights!r}, which changes the base weights",
            hint="convert it with path_initial_model_for_weight_conversion",
        )
    if config.use_dora and config.lora_bias:
        raise Refused(f"{file_name}: lora_bias and use_dora are set; PEFT has no such adapter")
    if min([config.r, *config.rank_pattern.values()]) < 1:
        raise Refused(f"{file_name}: every rank must be at least 1")
    if not all(math.isfinite(alpha) for alpha in [config.lora_alpha, *config.alpha_pattern.values()]):
        raise Refused(f"{file_name}: every alpha must be finite")
    if config.peft_type == "PROMPT_TUNING":
        if config.modules_to_save:
            raise Refused(f"{file_name}: modules_to_save is set; PEFT does not apply it to prompt tuning")
        if config.num_virtual_tokens < 1 or config.num_transformer_submodules != 1:
            raise Refused(f"{file_name}: num_virtual_tokens must be positive and num_transformer_submodules 1")


def _refuse_names(file_name: str, config: AdapterConfig) -> None:
    """Names must be names, and expressions ones that are safe to match."""
    expressions = {"rank_pattern": tuple(config.rank_pattern), "alpha_pattern": tuple(config.alpha_pattern)}
    patterns = config.layers_pattern
    names = {
        "modules_to_save": config.modules_to_save,
        "layers_pattern": (patterns,) if isinstance(patterns, str) else patterns or (),
    }
    for key in ("target_modules", "exclude_modules", "feedforward_modules"):
        value: tuple[str, ...] | str = getattr(config, key) or ()
        if isinstance(value, str):
            expressions[key] = (value,)
        else:
            names[key] = value
    for key, values in names.items():
        for value in values:
            if not LITERAL.fullmatch(value):
                raise Refused(f"{file_name}: {key} holds the pattern {value!r}; write plain module names")
    for key, values in expressions.items():
        for value in values:
            check_pattern(value, f"{file_name}: {key}")
