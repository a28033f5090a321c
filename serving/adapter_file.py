"""A PEFT directory, opened: its config, what each of its tensors is for, and their values. Knows no batch.

Values are read by the header that was checked here already, out of the mapped file: no second parser, no copy but the
one into float32. Adapters of one recipe have the same header and the same config, which are then checked once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from registry.adapter_config import CONFIG_FILE, AdapterConfig, parse_adapter_config, raw_adapter_config
from registry.errors import Corrupt, NotFound, Refused
from registry.layout import WEIGHTS_FILE, Layout, Module, lay_out
from registry.manifest import BaseIdentity, BaseProfile
from registry.tensors import TensorEntry, parse_header, raw_header
from serving.finite import is_finite

_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


KNOWN_RECIPES = 32


@dataclass(frozen=True)
class Recipe:
    """All that the layout of an adapter depends on."""

    config: bytes
    header: bytes
    file_bytes: int
    base: BaseIdentity
    parsed: AdapterConfig = field(compare=False)
    profile: BaseProfile = field(compare=False)

    @property
    def layout(self) -> Layout:
        """Refused where there is none."""
        return _laid_out(self)


@lru_cache(KNOWN_RECIPES)
def _laid_out(recipe: Recipe) -> Layout:
    return lay_out(parse_header(WEIGHTS_FILE, recipe.header, recipe.file_bytes), recipe.parsed, recipe.profile)


class AdapterFile:
    """What passes here fits the base exactly; NotFound, Corrupt or Refused name the file, key or tensor to blame."""

    def __init__(self, directory: Path, profile: BaseProfile) -> None:
        for needed in (CONFIG_FILE, WEIGHTS_FILE):
            if not (directory / needed).is_file():
                raise NotFound(f"{directory / needed} does not exist")
        self._path = directory / WEIGHTS_FILE
        config = raw_adapter_config(directory / CONFIG_FILE)
        self.config = parse_adapter_config(CONFIG_FILE, config)
        self.recipe = Recipe(config, *raw_header(self._path), profile.identity, self.config, profile)
        self.layout = self.recipe.layout
        try:
            self.content = torch.from_file(str(self._path), size=self._path.stat().st_size, dtype=torch.uint8)
        except (RuntimeError, OSError) as error:
            raise Corrupt(f"{self._path} cannot be read: {error}") from error

    def part(self, module: Module, part: str) -> Tensor | None:
        """The module's tensor of that kind in float32, or None where the file has none."""
        entry = module.parts.get(part)
        return None if entry is None else self.tensor(entry)

    def need(self, module: Module, part: str) -> Tensor:
        return self.tensor(module.parts[part])

    def dtype(self, module: Module, part: str) -> torch.dtype:
        """The type that the values were stored in."""
        return _DTYPES[module.parts[part].dtype]

    def peek(self, module: Module, part: str) -> Tensor:
        """As `need`, but as it is stored, in the mapped file, and unchecked: what is made of it must be looked at."""
        return self._stored(module.parts[part])

    def tensor(self, entry: TensorEntry) -> Tensor:
        values = self._stored(entry)
        if not is_finite(values):
            raise Refused(f"{self._path.name}: tensor {entry.name} holds values that are not finite")
        return values.to(torch.float32, copy=True)  # nothing kept outlives the mapping

    def _stored(self, entry: TensorEntry) -> Tensor:
        dtype, raw = _DTYPES[entry.dtype], self.content[entry.begin : entry.end]
        if entry.begin % dtype.itemsize:
            raw = raw.clone()  # a writer may have left the data unaligned
        return raw.view(dtype).view(entry.shape)
