"""What each tensor of an adapter file is for. Every tensor must have a place in the base, and every place its tensors.

    adapter_config.json + tensor names and shapes + base profile -> Layout, or Refused naming the tensor

The one check that push and the engine share: what passes here can be applied exactly. Reads no values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from registry.adapter_config import AdapterConfig
from registry.errors import Refused
from registry.manifest import BaseProfile
from registry.tensors import TensorEntry

WEIGHTS_FILE = "adapter_model.safetensors"
MAX_RANK = 256
ADAPTER_DTYPES = ("F32", "F16", "BF16")

Place: TypeAlias = Literal["linear", "head", "embedding"]
_PARTS = (
    "lora_A.weight", "lora_B.weight", "lora_B.bias", "lora_embedding_A", "lora_embedding_B", "lora_magnitude_vector",
    "ia3_l", "token_adapter.trainable_tokens_delta", "base_layer.weight", "base_layer.bias", "weight", "bias",
)  # fmt: skip
PROMPT = "prompt_embeddings"
TOKENS = "token_adapter.trainable_tokens_delta"
_TENSOR = re.compile(rf"base_model\.model\.(?P<module>.+?)\.(?P<part>{'|'.join(map(re.escape, _PARTS))})")


@dataclass(frozen=True)
class Module:
    """One module that the adapter changes: where it is, and the file's tensor for each part of the change."""

    name: str
    place: Place
    parts: Mapping[str, TensorEntry]

    def __contains__(self, part: str) -> bool:
        return part in self.parts


@dataclass(frozen=True)
class Layout:
    """All that an adapter file holds. `prompt` is the soft prompt's tensor, of a file that holds nothing else."""

    modules: tuple[Module, ...]
    prompt: TensorEntry | None = None

    @property
    def rank(self) -> int:
        """The largest rank of any module; 0 where nothing is low-rank."""
        sides = ("lora_A.weight", "lora_embedding_A")
        return max(
            (module.parts[side].shape[0] for module in self.modules for side in sides if side in module), default=0
        )


def lay_out(tensors: Mapping[str, TensorEntry], config: AdapterConfig, profile: BaseProfile) -> Layout:
    """Give every tensor its place. Refused names the first that has none, lacks a partner or has a wrong shape."""
    for tensor in tensors.values():
        if tensor.dtype not in ADAPTER_DTYPES:
            raise _refusal(tensor, f"is {tensor.dtype}, not {', '.join(ADAPTER_DTYPES)}")
    if not tensors:
        raise Refused(f"{WEIGHTS_FILE} holds no tensors")
    if config.peft_type == "PROMPT_TUNING":
        return Layout((), _soft_prompt(tensors, config, profile))
    modules = tuple(_module(name, parts, config, profile) for name, parts in _by_module(tensors).items())
    _check_saved(modules, config)
    if profile.is_tied:
        _check_shared_tokens(modules)
    return Layout(modules)


def _soft_prompt(tensors: Mapping[str, TensorEntry], config: AdapterConfig, profile: BaseProfile) -> TensorEntry:
    for tensor in tensors.values():
        if tensor.name != PROMPT:
            raise _refusal(tensor, "is no soft prompt; it cannot be applied")
        expected = (config.num_virtual_tokens, profile.hidden_size)
        if tensor.shape != expected:
            raise _refusal(tensor, f"has shape {list(tensor.shape)}, but config and base make it {list(expected)}")
        if config.num_virtual_tokens >= profile.context_length:
            raise _refusal(tensor, f"fills the base's whole context of {profile.context_length} tokens")
    return tensors[PROMPT]


def _by_module(tensors: Mapping[str, TensorEntry]) -> dict[str, dict[str, TensorEntry]]:
    modules: dict[str, dict[str, TensorEntry]] = {}
    for tensor in tensors.values():
        found = _TENSOR.fullmatch(tensor.name)
        if found is None:
            raise _refusal(tensor, "is of no kind that the engine knows; it cannot be applied")
        modules.setdefault(found["module"], {})[found["part"]] = tensor
    return modules


def _module(name: str, parts: dict[str, TensorEntry], config: AdapterConfig, profile: BaseProfile) -> Module:
    first = next(iter(parts.values()))
    place = _place(name, profile)
    if place is None:
        raise _refusal(first, f"cannot be applied: {name} is no linear, embedding or head of {profile.identity.id}")
    required, optional = _expected(name, place, parts, config, profile)
    for part, tensor in parts.items():
        if part not in required | optional:
            raise _refusal(tensor, _why_not(name, part, config, profile))
    for part in sorted(required - set(parts)):
        raise _refusal(first, f"has no matching {part}")
    if TOKENS in parts:
        _check_tokens(parts[TOKENS], name, config, profile)
    shapes = _Shapes(name, place, config, profile)
    for part, tensor in parts.items():
        if part.startswith("lora_") and tensor.shape and shapes.rank > MAX_RANK:
            raise _refusal(tensor, f"has rank {shapes.rank}; at most {MAX_RANK} is allowed")
        if tensor.shape != (expected := shapes.of(part)):
            raise _refusal(tensor, f"has shape {list(tensor.shape)}, but config and base make it {list(expected)}")
    return Module(name, place, parts)


def _place(name: str, profile: BaseProfile) -> Place | None:
    places: tuple[tuple[Place, Mapping[str, tuple[int, int]]], ...] = (
        ("linear", profile.linears),
        ("head", profile.heads),
        ("embedding", profile.embeddings),
    )
    return next((place for place, names in places if name in names), None)


def _expected(
    name: str, place: Place, parts: Mapping[str, TensorEntry], config: AdapterConfig, profile: BaseProfile
) -> tuple[set[str], set[str]]:
    """The parts that the module must have, and those that it may have."""
    has_bias = name in profile.biased
    if config.saves(name):
        return ({"weight", "bias"} if has_bias else {"weight"}), set()
    if TOKENS in parts and place != "linear" and listed_tokens(name, config, profile):
        return {TOKENS}, set()
    is_copied = place != "linear"  # PEFT can save the embedding and the head beside whatever it trained
    if not config.targets(name):
        biases = {"bias"} if has_bias and (is_copied or config.bias == "all") else set()
        return set(), biases | ({"weight"} if is_copied else set())
    copied = {"base_layer.weight"} | ({"base_layer.bias"} if has_bias else set()) if is_copied else set()
    if config.peft_type == "IA3":
        return (set(), set()) if place == "embedding" else ({"ia3_l"}, copied)
    magnitude = {"lora_magnitude_vector"} if config.use_dora else set()
    if place == "embedding":
        return {"lora_embedding_A", "lora_embedding_B"} | magnitude, copied
    lora_bias = {"lora_B.bias"} if config.lora_bias else set()
    trained = {"base_layer.bias"} if config.bias != "none" and has_bias else set()
    return {"lora_A.weight", "lora_B.weight"} | magnitude | lora_bias, copied | trained


def listed_tokens(name: str, config: AdapterConfig, profile: BaseProfile) -> tuple[int, ...]:
    """The tokens of this embedding or head that were trained one by one; empty if none were."""
    indices = config.trainable_token_indices
    if isinstance(indices, dict):
        return next((tokens for key, tokens in indices.items() if name == key or name.endswith("." + key)), ())
    return indices or () if name in profile.embeddings else ()


def _check_tokens(tensor: TensorEntry, name: str, config: AdapterConfig, profile: BaseProfile) -> None:
    """Tokens trained one by one change the head too where it shares the embedding's weight, as vectors of a rank."""
    tokens = listed_tokens(name, config, profile)
    if len(set(tokens)) < len(tokens) or min(tokens) < 0 or max(tokens) >= profile.vocab_size:
        raise _refusal(tensor, "cannot be applied: trainable_token_indices repeats a token or leaves the vocabulary")
    heads = profile.heads if profile.is_tied or name in profile.heads else {}
    if heads and len(tokens) > MAX_RANK:
        raise _refusal(tensor, f"changes {len(tokens)} tokens of the head; at most {MAX_RANK} are allowed")
    if any(head in profile.biased for head in heads):
        raise _refusal(tensor, "cannot be applied: the head has a bias, which PEFT then leaves out")


def _why_not(name: str, part: str, config: AdapterConfig, profile: BaseProfile) -> str:
    if part.endswith("bias") and name not in profile.biased:
        return f"cannot be applied: {name} has no bias in {profile.identity.id}"
    if part in ("weight", "bias"):
        return f"cannot be applied: the config does not list {name} in modules_to_save, nor trained biases"
    if not config.targets(name):
        return f"cannot be applied: {name} is not among the config's target_modules"
    return f"is no part of {config.method} on {name}; it cannot be applied"


class _Shapes:
    """What the config and the base make each part's shape."""

    def __init__(self, name: str, place: Place, config: AdapterConfig, profile: BaseProfile) -> None:
        known = {"linear": profile.linears, "head": profile.heads, "embedding": profile.embeddings}[place]
        self._out, self._in = known[name]
        self._whole = (self._in, self._out) if name in profile.transposed else (self._out, self._in)
        self._scales_input = config.peft_type == "IA3" and config.is_feedforward(name)
        self._num_tokens = len(listed_tokens(name, config, profile))
        self._place = place
        self.rank = config.rank_of(name)

    def of(self, part: str) -> tuple[int, ...]:
        vector = self._in if self._place == "embedding" else self._out
        return {
            "lora_A.weight": (self.rank, self._in),
            "lora_B.weight": (self._out, self.rank),
            "lora_B.bias": (self._out,),
            "lora_embedding_A": (self.rank, self._out),
            "lora_embedding_B": (self._in, self.rank),
            "lora_magnitude_vector": (vector,),
            "ia3_l": (1, self._in) if self._scales_input else (self._out, 1),
            TOKENS: (self._num_tokens, self._in),
            "base_layer.weight": self._whole,
            "base_layer.bias": (self._out,),
            "weight": self._whole,
            "bias": (self._out,),
        }[part]


def _check_saved(modules: tuple[Module, ...], config: AdapterConfig) -> None:
    for name in config.modules_to_save:
        if not any(module.name == name or module.name.endswith("." + name) for module in modules):
            raise Refused(f"{WEIGHTS_FILE} holds nothing of {name}, which the config lists in modules_to_save")


def _check_shared_tokens(modules: tuple[Module, ...]) -> None:
    """Where head and embedding share a weight, tokens trained in the one are the other's too."""
    embedding = next((module for module in modules if module.place == "embedding" and TOKENS in module), None)
    head = next((module for module in modules if module.place == "head" and TOKENS not in module), None)
    if embedding is not None and head is not None:
        raise _refusal(
            next(iter(head.parts.values())), f"cannot be applied beside the trained tokens of {embedding.name}"
        )


def _refusal(tensor: TensorEntry, complaint: str) -> Refused:
    return Refused(f"{WEIGHTS_FILE}: tensor {tensor.name} {complaint}")
