"""An adapter as it is found in the wild: a folder of PEFT's, a trainer's checkpoint, a snapshot in the Hub's cache.

Decides by name what belongs to the adapter, what is only beside it and is left out (each with its reason), and what
cannot be taken at all. Whether tensors and config make a valid adapter is for `validation` to say.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from registry.adapter_config import CONFIG_FILE
from registry.errors import Invalid, NotFound, Refused, Unavailable
from registry.exchange.hub import Snapshot, find_snapshot
from registry.exchange.shards import INDEXES, check_complete, is_shard, join
from registry.folders import staged
from registry.layout import WEIGHTS_FILE

# What others leave beside an adapter. Folders end in a slash; the first pattern that matches gives the reason.
_BESIDE: Mapping[str, tuple[str, ...]] = {
    "hidden": (".*",),
    "model card": ("README.md", "LICENSE*", "NOTICE*"),
    "the base's tokenizer": (
        "tokenizer*.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json", "vocab.json",
        "vocab.txt", "merges.txt", "chat_template.*", "spiece.model", "*.tiktoken", "preprocessor_config.json",
        "processor_config.json",
    ),
    "the base's settings": ("generation_config.json", "config.json"),
    "state of a training": (
        "optimizer.*", "optimizer_*", "scheduler.pt", "scaler.pt", "rng_state*.pth", "training_args.bin",
        "trainer_state.json", "trainer_log.jsonl", "all_results.json", "train_results.json", "eval_results.json",
        "training_*.png", "global_step*/", "pytorch_model_fsdp*/", "latest", "zero_to_fp32.py",
    ),
    "another checkpoint": ("checkpoint-*/",),
    "a log of a training": ("runs/", "logs/", "wandb/", "events.out.tfevents.*"),
    "a signature; `lorimer registry import` checks it": ("model.sig", "*.sigstore*"),
}  # fmt: skip
_PICKLED_WEIGHTS = ("adapter_model.bin", "adapter_model.pt", "adapter_model.pth", "pytorch_model.bin")


@dataclass(frozen=True)
class LeftOut:
    """Something in the folder that does not become part of the adapter."""

    path: str
    reason: str


@dataclass(frozen=True)
class Found:
    """What belongs to the adapter: names in the version -> files on disk. `shards` become the weights file."""

    directory: Path
    files: Mapping[str, Path]
    shards: Mapping[str, Path]
    left_out: Sequence[LeftOut]
    snapshot: Snapshot | None

    @contextmanager
    def folder(self, scratch: Path) -> Iterator[Path]:
        """A folder with just these files: the directory itself where it is that, else one below `scratch`."""
        if not (self.left_out or self.shards or self.snapshot):
            yield self.directory
            return
        with staged(self.files, scratch) as folder:
            if self.shards:
                join(self.shards, folder / WEIGHTS_FILE)
            yield folder


def find(directory: Path, keep: Sequence[str] = ()) -> Found:
    """Look through a folder. `keep` names files to take that would be left out."""
    if not directory.is_dir():
        raise Invalid(f"{directory} is not a directory", param="directory")
    snapshot = find_snapshot(directory)
    directory = snapshot.directory if snapshot else directory
    left_out: list[LeftOut] = []
    names = list(_names(directory, "", set(keep), left_out))
    if missing := sorted(set(keep) - set(names)):
        raise NotFound(f"there is no {missing[0]} in {directory}")
    shards = [name for name in names if is_shard(name)] if WEIGHTS_FILE not in names else []
    if shards:
        check_complete(shards)
        left_out += [LeftOut(name, "its shards are joined") for name in names if name in INDEXES]
    left_out += _check_weights(directory, names, bool(shards))
    gone = {each.path for each in left_out}
    paths = {name: _resolved(directory / name, snapshot) for name in names if name not in gone}
    return Found(
        directory=directory,
        files={name: path for name, path in paths.items() if name not in shards},
        shards={name: path for name, path in paths.items() if name in shards},
        left_out=sorted(left_out, key=lambda each: each.path),
        snapshot=snapshot,
    )


def _names(directory: Path, below: str, keep: set[str], left_out: list[LeftOut]) -> Iterator[str]:
    """Files to take, in order; what is only beside the adapter goes to `left_out` unread."""
    try:
        entries = sorted(os.scandir(directory / below), key=lambda entry: entry.name)
    except OSError as error:
        raise Unavailable(f"cannot read {directory / below}: {error.strerror or error}") from error
    for entry in entries:
        is_folder = entry.is_dir(follow_symlinks=False)
        name = f"{below}{entry.name}{'/' if is_folder else ''}"
        reason = _reason(entry.name, is_folder)
        is_wanted = any(path == name or (is_folder and path.startswith(name)) for path in keep)
        if reason and not is_wanted:
            left_out.append(LeftOut(name, reason))
        elif is_folder:
            yield from _names(directory, name, keep, left_out)
        else:
            yield name


def _reason(name: str, is_folder: bool) -> str | None:
    shown = name + "/" * is_folder
    for reason, patterns in _BESIDE.items():
        if any(fnmatchcase(shown, pattern) for pattern in patterns):
            return reason
    return None


def _check_weights(directory: Path, names: Sequence[str], has_shards: bool) -> list[LeftOut]:
    """Other forms of the weights are left out; pickled ones are Refused where there are no safe ones."""
    pickled = [name for name in names if name in _PICKLED_WEIGHTS]
    if WEIGHTS_FILE in names:
        others = [*pickled, *(name for name in names if is_shard(name) or name in INDEXES)]
        return [LeftOut(name, f"{WEIGHTS_FILE} holds the weights") for name in others]
    if has_shards:
        return [LeftOut(name, "the shards hold the weights") for name in pickled]
    if pickled:
        raise Refused(
            f"{pickled[0]} may run code when loaded, and there is no {WEIGHTS_FILE}",
            hint="if you trust where it came from, convert it: AutoPeftModelForCausalLM.from_pretrained(directory)"
            ".save_pretrained(another)",
        )
    if CONFIG_FILE not in names:
        inner = sorted({name.split("/")[0] for name in names if name.endswith(f"/{CONFIG_FILE}")})
        if inner:
            raise Refused(f"{directory} has no {CONFIG_FILE}", hint=f"push {', '.join(inner)} in it, one by one")
    return []


def _resolved(path: Path, snapshot: Snapshot | None) -> Path:
    if not path.is_symlink():
        return path
    if snapshot is None:
        raise Refused(f"{path.name} is not a regular file", hint="links are followed in snapshots of the Hub only")
    return snapshot.resolve(path)
