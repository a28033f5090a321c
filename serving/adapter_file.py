"""A PEFT directory, opened: its config, what each of its tensors is for, and their values. Knows no batch.

Values are read by the header that was checked here already, out of the mapped file: no second parser, no copy but the
one into float32.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from registry.adapter_config import CONFIG_FILE, read_adapter_config
from registry.errors import Corrupt, NotFound, Refused
from registry.layout import WEIGHTS_FILE, Module, lay_out
from registry.manifest import BaseProfile
from registry.tensors import TensorEntry, read_header
from serving.finite import is_finite

_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class AdapterFile:
    """What passes here fits the base exactly; NotFound, Corrupt or Refused name the file, key or tensor to blame."""

    def __init__(self, directory: Path, profile: BaseProfile) -> None:
        for needed in (CONFIG_FILE, WEIGHTS_FILE):
            if not (directory / needed).is_file():
                raise NotFound(f"{directory / needed} does not exist")
        self.config = read_adapter_config(directory / CONFIG_FILE)
        self.layout = lay_out(read_header(directory / WEIGHTS_FILE), self.config, profile)
        self._path = directory / WEIGHTS_FILE
        try:
            self._bytes = torch.from_file(str(self._path), size=self._path.stat().st_size, dtype=torch.uint8)
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
        """As `need`, but as it is stored, in the mapped file: to be computed with, not to be kept."""
        return self._stored(module.parts[part])

    def tensor(self, entry: TensorEntry) -> Tensor:
        return self._stored(entry).to(torch.float32, copy=True)  # nothing kept outlives the mapping

    def _stored(self, entry: TensorEntry) -> Tensor:
        dtype, raw = _DTYPES[entry.dtype], self._bytes[entry.begin : entry.end]
        if entry.begin % dtype.itemsize:
            raw = raw.clone()  # a writer may have left the data unaligned
        values = raw.view(dtype).view(entry.shape)
        if not is_finite(values):
            raise Refused(f"{self._path.name}: tensor {entry.name} holds values that are not finite")
        return values
