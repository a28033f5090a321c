"""Adapters as others leave them: a trainer's checkpoint, a snapshot in the Hub's cache, sharded weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from tests.registry.folders import write_folder

REVISION = "0123456789abcdef0123456789abcdef01234567"
BESIDE = (
    "README.md", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "optimizer.pt", "scheduler.pt",
    "rng_state_0.pth", "training_args.bin", "trainer_state.json", ".gitattributes", "checkpoint-10/optimizer.pt",
    "runs/events.out.tfevents.1", "adapter_model.bin",
)  # fmt: skip


def write_checkpoint(folder: Path, *, seed: int = 0) -> Path:
    """An adapter with everything that a trainer leaves beside it."""
    write_folder(folder, seed=seed)
    for name in BESIDE:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"not ours")
    return folder


def write_snapshot(cache: Path, files: Mapping[str, bytes], *, large: tuple[str, ...] = ()) -> Path:
    """A repository as `huggingface_hub` keeps it: links to blobs named by git's hash, or by sha256 if `large`."""
    repository = cache / "models--someone--tiny-lora"
    snapshot = repository / "snapshots" / REVISION
    for name, data in files.items():
        etag = hashlib.sha256(data).hexdigest() if name in large else git_hash(data)
        blob, link = repository / "blobs" / etag, snapshot / name
        blob.parent.mkdir(parents=True, exist_ok=True)
        link.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(data)
        link.symlink_to(Path(*[".."] * (2 + name.count("/")), "blobs", etag))
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(REVISION)
    return snapshot


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def write_shards(folder: Path, count: int = 2) -> Path:
    """The same adapter as `write_folder(folder)`, its weights in several files as transformers writes them."""
    from safetensors.numpy import load_file, save_file

    write_folder(folder)
    whole = folder / "adapter_model.safetensors"
    tensors = load_file(whole)
    whole.unlink()
    weight_map = {}
    for number in range(count):
        names = sorted(tensors)[number::count]
        shard = f"adapter_model-{number + 1:05}-of-{count:05}.safetensors"
        save_file({name: tensors[name] for name in names}, folder / shard)
        weight_map |= dict.fromkeys(names, shard)
    (folder / "adapter_model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder
