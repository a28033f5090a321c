"""What may enter the registry: a folder of plain files whose adapter tensors fit a registered base.

Every refusal names the file or tensor. Loads no weights of the base and runs no code from the adapter.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from registry.adapter_config import CONFIG_FILE, AdapterConfig, read_adapter_config
from registry.canonical import sha256_file
from registry.errors import Invalid, Refused, Unavailable
from registry.layout import WEIGHTS_FILE, lay_out
from registry.manifest import BaseProfile, FileEntry, is_safe_path
from registry.tensors import check_finite, read_header

MAX_FILES = 256
ALLOWED = (
    ".safetensors",
    ".json",
    ".jsonl",
    ".toml",
    ".yaml",
    ".md",
    ".txt",
    ".csv",
    ".jinja",
    ".html",
    ".svg",
    ".png",
)
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz", ".dill")


@dataclass(frozen=True)
class CheckedAdapter:
    """A folder that passed: its files, and what the manifest says of it."""

    files: tuple[FileEntry, ...]
    config: AdapterConfig
    method: str
    rank: int
    """The largest rank of any module; 0 where nothing is low-rank."""
    alpha: float
    targets: tuple[str, ...]


def check_folder(directory: Path) -> tuple[FileEntry, ...]:
    """Every file, hashed. Refused: links, devices, pickles, unknown kinds, unsafe names, missing parts."""
    files = []
    for path in _regular_files(directory):
        name = path.relative_to(directory).as_posix()
        _check_file_name(name)
        files.append(FileEntry(path=name, sha256=sha256_file(path), size=path.stat().st_size))
    if len(files) > MAX_FILES:
        raise Refused(f"{directory} holds {len(files)} files; at most {MAX_FILES} are allowed")
    names = {entry.path for entry in files}
    for needed in (CONFIG_FILE, WEIGHTS_FILE):
        if needed not in names:
            raise Refused(f"{directory} has no {needed}", hint="push the folder that PEFT's save_pretrained wrote")
    return tuple(sorted(files, key=lambda entry: entry.path))


def check_adapter(directory: Path, files: tuple[FileEntry, ...], profile: BaseProfile) -> CheckedAdapter:
    """Config, header, shapes against the base, then every value."""
    config = read_adapter_config(directory / CONFIG_FILE)
    name = config.base_model_name_or_path
    if name and name not in profile.names and name != profile.identity.id:
        raise Refused(f"{CONFIG_FILE}: the adapter was trained on {name!r}, not on {profile.identity.id}")
    tensors = read_header(directory / WEIGHTS_FILE)
    layout = lay_out(tensors, config, profile)
    check_finite(directory / WEIGHTS_FILE, tensors)
    for entry in files:
        if entry.path.endswith(".safetensors") and entry.path != WEIGHTS_FILE:
            check_finite(directory / entry.path, read_header(directory / entry.path))
    return CheckedAdapter(
        files=files,
        config=config,
        method=config.method,
        rank=layout.rank,
        alpha=config.lora_alpha if layout.rank else 0.0,
        targets=tuple(sorted({module.name.rpartition(".")[2] for module in layout.modules})),
    )


def _regular_files(directory: Path) -> list[Path]:
    if not directory.is_dir():
        raise Invalid(f"{directory} is not a directory", param="directory")
    found: list[Path] = []
    try:
        for root, folders, names in os.walk(directory):
            for name in sorted([*folders, *names]):
                path = Path(root) / name
                mode = path.lstat().st_mode
                if stat.S_ISREG(mode):
                    found.append(path)
                elif not stat.S_ISDIR(mode):
                    raise Refused(f"{path.relative_to(directory)} is not a regular file")
    except OSError as error:
        raise Unavailable(f"cannot read {directory}: {error.strerror or error}") from error
    return found


def _check_file_name(name: str) -> None:
    lower = name.lower()
    if lower.endswith(PICKLES):
        raise Refused(f"{name} may run code when loaded", hint="save as safetensors and remove this file")
    if not lower.endswith(ALLOWED):
        raise Refused(f"{name} is not a kind of file an adapter may hold", hint=f"allowed: {' '.join(ALLOWED)}")
    if not is_safe_path(name):
        raise Refused(f"{name!r} is not a safe file name")
