"""Adapter weights that transformers wrote in several files, joined into the one that PEFT and we read.

    adapter_model-00001-of-00002.safetensors, adapter_model-00002-of-00002.safetensors -> adapter_model.safetensors

Streams: holds one chunk of data at a time. The same tensors make the same bytes, however they were split.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from registry.canonical import CHUNK_BYTES
from registry.errors import Refused, Unavailable
from registry.layout import WEIGHTS_FILE
from registry.tensors import TensorEntry, read_header

_SHARD = re.compile(r"adapter_model-(?P<number>\d{5})-of-(?P<count>\d{5})\.safetensors")
INDEXES = ("adapter_model.safetensors.index.json", "model.safetensors.index.json")


def is_shard(name: str) -> bool:
    return _SHARD.fullmatch(name) is not None


def check_complete(names: Iterable[str]) -> None:
    """Refused unless these shards are all of one whole; the first missing one is named."""
    shards = sorted(names)
    count = shards[0].removesuffix(".safetensors").rpartition("-")[2]
    wanted = [f"adapter_model-{number:05}-of-{count}.safetensors" for number in range(1, int(count) + 1)]
    missing = sorted(set(wanted) - set(shards))
    if missing or len(shards) != len(wanted):
        which = f"{missing[0]} is missing" if missing else f"{shards[-1]} belongs to another set"
        raise Refused(f"the shards of {WEIGHTS_FILE} are not complete: {which}")


def join(shards: Mapping[str, Path], target: Path) -> None:
    """Write every tensor of every shard into `target`; a tensor in two shards is Refused."""
    found: dict[str, tuple[Path, TensorEntry]] = {}
    for name, path in sorted(shards.items()):
        for tensor in read_header(path).values():
            if tensor.name in found:
                raise Refused(f"{name}: tensor {tensor.name} is in {found[tensor.name][0].name} as well")
            found[tensor.name] = path, tensor
    parts = [found[name] for name in sorted(found)]
    try:
        with target.open("xb") as file:
            header = _header([tensor for _, tensor in parts])
            file.write(len(header).to_bytes(8, "little") + header)
            for path, tensor in parts:
                with path.open("rb") as source:
                    source.seek(tensor.begin)
                    left = tensor.end - tensor.begin
                    while left:
                        chunk = source.read(min(left, CHUNK_BYTES))
                        if not chunk:
                            raise Refused(f"{path.name}: tensor {tensor.name} is cut short")
                        left -= file.write(chunk)
    except OSError as error:
        raise Unavailable(f"cannot join {WEIGHTS_FILE}: {error.strerror or error}") from error


def _header(tensors: Iterable[TensorEntry]) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    position = 0
    for tensor in tensors:
        end = position + tensor.end - tensor.begin
        entries[tensor.name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": (position, end)}
        position = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8)
