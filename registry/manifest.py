"""What a version is: its files, what it was made from, and the digest that names it. Immutable values only."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from registry.canonical import canonical, sha256

FORMAT = "peft-lora/safetensors"
_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*){0,3}")
_MAX_PATH = 200


class BaseIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a base that an adapter depends on."""

    id: str
    weights_sha256: str
    tokenizer_sha256: str
    template_sha256: str
    shape_sha256: str


class BaseProfile(msgspec.Struct, frozen=True, kw_only=True):
    """What the registry must know of a base to check an adapter without loading any weights."""

    identity: BaseIdentity
    names: tuple[str, ...]
    """Values of `base_model_name_or_path` in an adapter_config.json that mean this base."""
    architecture: str
    hidden_size: int
    num_layers: int
    vocab_size: int
    context_length: int
    linears: dict[str, tuple[int, int]]
    """Module name in PEFT's terms (`model.layers.0.self_attn.q_proj`) -> (out_features, in_features)."""
    transposed: tuple[str, ...] = ()
    """Linears whose weights are stored (in_features, out_features), as GPT-2's are."""
    biased: tuple[str, ...] = ()
    """Linears and heads that have a bias."""
    embeddings: dict[str, tuple[int, int]] = {}
    """The input embedding -> (vocabulary, hidden_size)."""
    heads: dict[str, tuple[int, int]] = {}
    """The output embedding -> (vocabulary, hidden_size)."""
    is_tied: bool = False
    """Whether the head's weight is the embedding's."""


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    path: str
    sha256: str
    size: int


class Parent(msgspec.Struct, frozen=True, kw_only=True):
    adapter: str
    digest: str


class DatasetRecord(msgspec.Struct, frozen=True, kw_only=True):
    uri: str
    sha256: str
    rows: int
    counts: dict[str, int] = {}


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The record whose digest is a version's identity. It holds no time and no place: copying keeps the digest."""

    files: tuple[FileEntry, ...]
    format: str = FORMAT
    method: str
    rank: int
    alpha: float
    targets: tuple[str, ...]
    base: BaseIdentity
    parent: Parent | None = None
    dataset: DatasetRecord | None = None
    trainer: dict[str, Any] = {}
    metrics: dict[str, float] = {}
    evidence: str | None = None
    trigger: str | None = None
    tags: dict[str, str] = {}

    def file(self, path: str) -> FileEntry | None:
        return next((entry for entry in self.files if entry.path == path), None)

    @property
    def in_words(self) -> str:
        """What was trained, where: `dora, rank 8, alpha 16, on q_proj v_proj`."""
        low_rank = f", rank {self.rank}, alpha {self.alpha:g}" if self.rank else ""
        return f"{self.method}{low_rank}" + (f", on {' '.join(self.targets)}" if self.targets else "")

    @property
    def num_bytes(self) -> int:
        return sum(entry.size for entry in self.files)


def is_safe_path(path: str) -> bool:
    """Whether a file may have this name: it stays below its folder, is not hidden, and is plain ASCII."""
    return len(path) <= _MAX_PATH and _PATH.fullmatch(path) is not None


def digest(manifest: Manifest) -> str:
    return "sha256:" + sha256(canonical(manifest))
