"""Checkpoints that survive any crash: stage, fsync, manifest of sha256 last, rename. Knows no training.

checkpoints/step-000000020/  state.safetensors  numbers.json  manifest.json
checkpoints/.staging-...     never looked at, swept at the next save
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from registry.errors import Unavailable

STATE, NUMBERS, MANIFEST = "state.safetensors", "numbers.json", "manifest.json"
KEEP = 2


@dataclass(frozen=True, eq=False)
class Checkpoint:
    step: int
    tensors: Mapping[str, Tensor]
    numbers: bytes


class Checkpoints:
    """The checkpoints of one run, in one directory, by one writer at a time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def save(self, step: int, tensors: Mapping[str, Tensor], numbers: bytes) -> None:
        """Durable and whole when it returns; older ones than the last two are removed."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._sweep()
            staging = Path(tempfile.mkdtemp(dir=self._directory, prefix=".staging-"))
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, staging / STATE)
            (staging / NUMBERS).write_bytes(numbers)
            digests = {name: _sha256(staging / name) for name in (STATE, NUMBERS)}
            for name in (STATE, NUMBERS):
                _sync(staging / name)
            (staging / MANIFEST).write_bytes(msgspec.json.encode(digests))
            _sync(staging / MANIFEST)
            _sync(staging)
            target = self._directory / f"step-{step:09d}"
            if target.exists():
                shutil.rmtree(target)
            staging.rename(target)
            _sync(self._directory)
            for old in self._steps()[:-KEEP]:
                shutil.rmtree(old)
        except (OSError, SafetensorError) as error:
            raise Unavailable(f"cannot write a checkpoint to {self._directory}: {error}") from error

    def newest(self) -> Checkpoint | None:
        """The newest one whose bytes are all as written; damaged ones are passed over."""
        for directory in reversed(self._steps()):
            if _verifies(directory):
                step = int(directory.name.removeprefix("step-"))
                return Checkpoint(step, load_file(directory / STATE), (directory / NUMBERS).read_bytes())
        return None

    def _steps(self) -> list[Path]:
        return sorted(self._directory.glob("step-*"))

    def _sweep(self) -> None:
        for leftover in self._directory.glob(".staging-*"):
            shutil.rmtree(leftover)


def _verifies(directory: Path) -> bool:
    try:
        digests = msgspec.json.decode((directory / MANIFEST).read_bytes(), type=dict[str, str])
        return set(digests) == {STATE, NUMBERS} and all(
            _sha256(directory / name) == digest for name, digest in digests.items()
        )
    except (OSError, msgspec.DecodeError):
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
