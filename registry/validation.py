"""What may enter the registry: a folder of plain files whose LoRA tensors fit a registered base.

Every refusal names the file or tensor. Loads no weights of the base and runs no code from the adapter.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from registry.adapter_config import CONFIG_FILE, AdapterConfig, read_adapter_config
from registry.canonical import sha256_file
from registry.errors import Invalid, Refused, Unavailable
from registry.manifest import BaseProfile, FileEntry
from registry.tensors import TensorEntry, check_finite, read_header

WEIGHTS_FILE = "adapter_model.safetensors"
MAX_FILES = 256
MAX_RANK = 256
ADAPTER_DTYPES = ("F32", "F16", "BF16")
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
_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*){0,3}")
_TENSOR = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")


@dataclass(frozen=True)
class CheckedAdapter:
    """A folder that passed: its files, and what the manifest says of its LoRA."""

    files: tuple[FileEntry, ...]
    config: AdapterConfig
    method: str
    rank: int
    """The largest rank of any module."""
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
    ranks = _check_tensors(tensors, config, profile)
    check_finite(directory / WEIGHTS_FILE, tensors)
    for entry in files:
        if entry.path.endswith(".safetensors") and entry.path != WEIGHTS_FILE:
            check_finite(directory / entry.path, read_header(directory / entry.path))
    return CheckedAdapter(
        files=files,
        config=config,
        method="rslora" if config.use_rslora else "lora",
        rank=max(ranks.values()),
        targets=tuple(sorted({module.rpartition(".")[2] for module in ranks})),
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
    if not _PATH.fullmatch(name) or len(name) > 200:
        raise Refused(f"{name!r} is not a safe file name")


def _check_tensors(tensors: dict[str, TensorEntry], config: AdapterConfig, profile: BaseProfile) -> dict[str, int]:
    """Each module's rank; every tensor must be half of a LoRA pair on a linear of the base."""
    pairs: dict[str, dict[str, TensorEntry]] = {}
    for tensor in tensors.values():
        found = _TENSOR.fullmatch(tensor.name)
        if found is None:
            raise Refused(f"{WEIGHTS_FILE}: tensor {tensor.name} is not plain LoRA on a linear; it cannot be applied")
        if tensor.dtype not in ADAPTER_DTYPES:
            raise Refused(f"{WEIGHTS_FILE}: tensor {tensor.name} is {tensor.dtype}, not {', '.join(ADAPTER_DTYPES)}")
        pairs.setdefault(found["module"], {})[found["side"]] = tensor
    if not pairs:
        raise Refused(f"{WEIGHTS_FILE} holds no tensors")
    return {module: _check_pair(module, pair, config, profile) for module, pair in pairs.items()}


def _check_pair(module: str, pair: dict[str, TensorEntry], config: AdapterConfig, profile: BaseProfile) -> int:
    first = next(iter(pair.values()))
    if module not in profile.linears:
        raise Refused(
            f"{WEIGHTS_FILE}: tensor {first.name}: {module} is not an adaptable linear of {profile.identity.id}"
        )
    if not config.targets(module):
        raise Refused(f"{WEIGHTS_FILE}: tensor {first.name}: {module} is not among the config's target_modules")
    if len(pair) < 2:
        missing = "lora_B" if "A" in pair else "lora_A"
        raise Refused(f"{WEIGHTS_FILE}: tensor {first.name} has no matching {missing}")
    rank = config.rank_of(module)
    if rank > MAX_RANK:
        raise Refused(f"{WEIGHTS_FILE}: tensor {first.name} has rank {rank}; at most {MAX_RANK} is allowed")
    out_features, in_features = profile.linears[module]
    for side, expected in (("A", (rank, in_features)), ("B", (out_features, rank))):
        if pair[side].shape != expected:
            raise Refused(
                f"{WEIGHTS_FILE}: tensor {pair[side].name} has shape {list(pair[side].shape)}, "
                f"but config and base make it {list(expected)}"
            )
    return rank
