"""A PEFT directory, opened: its config, what each of its tensors is for, and their values. Knows no batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from registry.adapter_config import CONFIG_FILE, read_adapter_config
from registry.errors import Corrupt, NotFound, Refused
from registry.layout import WEIGHTS_FILE, Module, lay_out
from registry.manifest import BaseProfile
from registry.tensors import TensorEntry, read_header
from serving.finite import is_finite


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
            self._file: Any = safe_open(self._path, framework="pt")
        except (SafetensorError, OSError) as error:
            raise Corrupt(f"{self._path} cannot be read: {error}") from error

    def part(self, module: Module, part: str) -> Tensor | None:
        """The module's tensor of that kind in float32, or None where the file has none."""
        entry = module.parts.get(part)
        return None if entry is None else self.tensor(entry)

    def need(self, module: Module, part: str) -> Tensor:
        return self.tensor(module.parts[part])

    def dtype(self, module: Module, part: str) -> torch.dtype:
        """The type that the values were stored in."""
        return {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[module.parts[part].dtype]

    def tensor(self, entry: TensorEntry) -> Tensor:
        try:
            values: Tensor = self._file.get_tensor(entry.name).to(torch.float32)
        except (SafetensorError, OSError) as error:
            raise Corrupt(f"{self._path} cannot be read: {error}") from error
        if not is_finite(values):
            raise Refused(f"{self._path.name}: tensor {entry.name} holds values that are not finite")
        return values
