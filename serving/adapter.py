"""An adapter in memory, of any kind, ready for the batch. Reads PEFT's format; knows no batch and no registry.

file -> a blueprint, if it is low rank on linears alone -> all deltas at once, in one slab
     -> else a change for each module (lora, ia3, a saved module) -> one delta for each site of linears
     -> the embedding's delta, the head's, and virtual tokens
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from registry.adapter_config import CONFIG_FILE
from registry.layout import TOKENS, WEIGHTS_FILE, Module, listed_tokens
from serving.adapter_file import AdapterFile
from serving.base import Base, Site
from serving.blueprint import Blueprint
from serving.change import Change, bias_of, fuse, weight_of
from serving.delta import Delta, EmbeddingDelta, Part
from serving.embedding_change import embedding_delta, replaced
from serving.ia3 import ia3
from serving.lora import lora, trained_bias, trained_tokens

__all__ = ["CONFIG", "WEIGHTS", "Delta", "EmbeddingDelta", "LoadedAdapter", "Part"]

CONFIG, WEIGHTS = CONFIG_FILE, WEIGHTS_FILE


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
    def make(
        cls,
        digest: str,
        name: str,
        deltas: Mapping[int, Delta],
        *,
        head: Delta | None = None,
        embedding: EmbeddingDelta | None = None,
        virtual: Tensor | None = None,
    ) -> LoadedAdapter:
        """With its size counted."""
        size = sum(delta.num_bytes for delta in (*deltas.values(), head, embedding) if delta is not None)
        return cls(digest, name, deltas, size + (0 if virtual is None else virtual.nbytes), head, embedding, virtual)

    @classmethod
    def from_directory(
        cls, path: Path, base: Base, digest: str | None = None, name: str | None = None
    ) -> LoadedAdapter:
        """Read a PEFT directory. NotFound, Corrupt or Refused name the file, key or tensor that is to blame."""
        file = AdapterFile(path, base.profile)
        return cls.from_file(file, base, digest or f"directory:{path.resolve()}", name or path.name)

    @classmethod
    def from_file(
        cls, file: AdapterFile, base: Base, digest: str, name: str, pace: Callable[[], None] = lambda: None
    ) -> LoadedAdapter:
        """Read the values of a file that was opened for this base. Calls `pace` between small pieces of work."""
        if (blueprint := Blueprint.of(file, base)) is not None:
            return cls(digest, name, blueprint.carry_out(file, pace), blueprint.num_bytes)
        if file.layout.prompt is not None:
            virtual = file.tensor(file.layout.prompt).to(base.device, base.dtype)
            return cls.make(digest, name, {}, virtual=virtual)
        reading = _Reading(file, base, pace)
        return cls.make(digest, name, reading.deltas(), head=reading.head(), embedding=reading.embedding())


class _Reading:
    """One adapter file on its way to being deltas."""

    def __init__(self, file: AdapterFile, base: Base, pace: Callable[[], None]) -> None:
        self._file, self._base, self._pace = file, base, pace
        self._modules = {module.name: module for module in file.layout.modules}
        self._embedding, self._head = self._modules.get(base.embedding_name), self._modules.get(base.head.names[0])

    def deltas(self) -> dict[int, Delta]:
        deltas = {}
        for site in self._base.sites:
            changes = {
                sibling: self._change(module, site, sibling)
                for sibling, name in enumerate(site.names)
                if (module := self._modules.get(name)) is not None and module.place == "linear"
            }
            if changes:
                deltas[site.index] = fuse(site, changes)
                self._pace()
        return deltas

    def head(self) -> Delta | None:
        """Its own change, or where it shares its weight with the embedding, what the file changes of that."""
        site, module = self._base.head, self._head
        if module is None and self._base.profile.is_tied:
            module = self._embedding
        if module is None:
            return None
        if (rows := self._file.part(module, TOKENS)) is not None:
            tokens = listed_tokens(module.name, self._file.config, self._base.profile)
            return fuse(site, {0: trained_tokens(rows, tokens, site.weight)})
        own = module is self._head
        change = self._change(module, site, 0) if own else Change(replacement=self._copied(module, site.weight))
        return None if change.is_empty else fuse(site, {0: change})

    def embedding(self) -> EmbeddingDelta | None:
        """Its own change, or where it shares its weight with the head, the weight that the file has for that."""
        base, module = self._base, self._embedding
        if module is not None and not set(module.parts) <= {"weight", "base_layer.weight"}:
            return embedding_delta(self._file, module, base, self._copied(module, base.input_embeddings))
        if module is None and base.profile.is_tied:
            module = self._head
        copied = None if module is None else self._copied(module, base.input_embeddings)
        if module is self._embedding and module is not None and self._file.config.saves(module.name):
            copied = self._file.need(module, "weight")
        return None if copied is None else replaced(copied, base)

    def _change(self, module: Module, site: Site, sibling: int) -> Change:
        file, weight, bias = self._file, weight_of(site, sibling), partial(bias_of, site, sibling)
        copied = self._copied(module, weight)
        if "ia3_l" in module:
            return ia3(file, module, bias, copied)
        if "lora_A.weight" in module:
            return lora(file, module, weight, bias, copied)
        if file.config.saves(module.name):
            saved = file.need(module, "weight").to(weight.device)
            copied = saved.t() if module.name in self._base.profile.transposed else saved
        return Change(replacement=copied, bias=trained_bias(file, module, "bias", bias))

    def _copied(self, module: Module, weight: Tensor) -> Tensor | None:
        """The embedding's or head's weight as PEFT saved it beside what it trained; None if it is still the base's."""
        part = "base_layer.weight" if "base_layer.weight" in module else "weight"
        if part not in module or self._file.config.saves(module.name):
            return None
        copy = self._file.need(module, part)
        stored = weight.to(self._file.dtype(module, part)).to(weight.device, torch.float32)
        return None if torch.equal(stored, copy.to(weight.device)) else copy.to(weight.device)
