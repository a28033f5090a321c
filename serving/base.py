"""The frozen base model: its weights, tokenizer, chat template and identity. Knows no adapter and no request.

Sibling linears that share an input (q/k/v, gate/up) live in one storage, so that the engine can multiply by all of
them at once while every module tree still sees its own weight:

    qkv   [ q_proj.weight | k_proj.weight | v_proj.weight ]   rows; each weight is a view

The input embedding and the head (the output embedding) are no decoder sites: they have their own places.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast
from transformers.pytorch_utils import Conv1D

from registry.canonical import canonical, sha256
from registry.errors import Corrupt, Invalid, Unavailable
from registry.manifest import BaseIdentity, BaseProfile
from registry.settings import Settings
from serving.architecture import check_architecture
from serving.conversation import ChatTemplate
from serving.slab import Pieces
from serving.source import Progress, Source, locate, quiet

Linear: TypeAlias = nn.Linear | Conv1D
Keep: TypeAlias = Callable[..., Tensor]
"""Takes weights of linears with the same input; returns them one below the other, where they will stay."""

SIBLINGS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


@dataclass(frozen=True, eq=False)
class Site:
    """Linears that share an input, computed by one product. `weight`: (sum of out_features, in_features)."""

    index: int
    names: tuple[str, ...]
    weight: Tensor
    bias: Tensor | None
    out_features: tuple[int, ...]

    @property
    def in_features(self) -> int:
        return int(self.weight.shape[1])

    @cached_property
    def columns(self) -> tuple[slice, ...]:
        """Each sibling's columns of the product, and rows of the weight."""
        ends = list(accumulate(self.out_features))
        return tuple(slice(end - size, end) for end, size in zip(ends, self.out_features, strict=True))


class Base:
    """One base, loaded. Its tensors are never written to; `check_integrity` proves it."""

    def __init__(self, tree: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, source: Source) -> None:
        self._tree = tree.eval().requires_grad_(requires_grad=False)
        self._tree.name_or_path = self._tree.config._name_or_path = source.id  # what PEFT writes into adapters
        self.tokenizer = tokenizer
        self._template = ChatTemplate(tokenizer)
        self.config = tree.config
        self.dtype: torch.dtype = tree.dtype
        self.device: torch.device = tree.device
        linears = _linears(tree)
        name, module = _named(tree, tree.get_output_embeddings())
        keep = (
            Pieces(each.weight for each in (*linears.values(), module)).take if self.device.type == "cpu" else _joined
        )
        self.sites = _fuse_siblings(linears, keep)
        """The decoder's linears."""
        self.head = _site(len(self.sites), [name], {name: module}, keep)
        self.embedding_name, embedding = _named(tree, tree.get_input_embeddings())
        self.input_embeddings: Tensor = embedding.weight.detach()
        scale = getattr(embedding, "embed_scale", None)
        self.embedding_scale = 1.0 if scale is None else float(torch.as_tensor(scale).to(self.dtype))
        """What the embedding module multiplies its weight by (Gemma)."""
        self.profile = _profile(tree, tokenizer, source, linears)
        self.eos_token_ids = _end_tokens(tree, tokenizer)
        self._resident_sha256 = self._digest_resident()

    def module_tree(self, attention: str | None = None) -> PreTrainedModel:
        """A new tree of modules over the same frozen storage, for wrapping; no other tree sees its changes."""
        attention = attention or ("sdpa" if self._tree._supports_sdpa else "eager")
        shared = {id(tensor): tensor for tensor in (*self._tree.parameters(), *self._tree.buffers())}
        tree = copy.deepcopy(self._tree, memo=shared)
        tree.set_attn_implementation(attention)
        return tree

    def twin(self) -> Base:
        """The same base with a tokenizer of its own, for another thread."""
        twin = copy.copy(self)
        twin.tokenizer = copy.deepcopy(self.tokenizer)
        twin._template = ChatTemplate(twin.tokenizer)
        return twin

    def render(
        self,
        messages: list[dict[str, Any]],
        add_generation_prompt: bool = True,
        tools: list[dict[str, Any]] | None = None,
    ) -> list[int]:
        """Token ids of a conversation. The one place where a chat template is applied, in training and serving."""
        if not self.tokenizer.chat_template:
            raise Invalid(f"base {self.profile.identity.id} has no chat template", param="messages")
        return self._template.render(messages, add_generation_prompt, tools)

    def check_integrity(self) -> None:
        """Corrupt if any weight in memory is not what was loaded."""
        if self._digest_resident() != self._resident_sha256:
            raise Corrupt("the base weights in memory have changed since they were loaded", hint="restart")

    def _digest_resident(self) -> str:
        state = hashlib.sha256()
        for _, parameter in sorted(self._tree.named_parameters()):
            state.update(parameter.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return state.hexdigest()


def load_base(settings: Settings, progress: Progress | None = None) -> Base:
    """Load the base that the settings name, converting and caching it first where needed."""
    say = progress or (lambda _: None)
    torch.set_num_threads(settings.threads or len(os.sched_getaffinity(0)))
    source = locate(settings.base, settings.cache_path(), say)
    device = choose_device(settings.device)
    dtype = choose_dtype(settings.dtype, device)
    say(f"loading {source.id} in {str(dtype).removeprefix('torch.')} on {device.type}")
    tree, tokenizer = _read(source.directory, dtype)
    check_architecture(tree)
    return Base(tree.to(device), tokenizer, source)


def choose_device(wanted: str) -> torch.device:
    """`auto` is a CUDA device where there is one. Unavailable when one is asked for and there is none."""
    has_cuda = torch.cuda.is_available()
    if wanted == "cuda" and not has_cuda:
        raise Unavailable("device=cuda, but torch finds no CUDA device here", hint="set device=cpu, or auto")
    return torch.device("cuda" if has_cuda and wanted != "cpu" else "cpu")


def choose_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 where the processor multiplies it natively, else float32."""
    if wanted != "auto":
        return torch.float32 if wanted == "float32" else torch.bfloat16
    if device.type == "cuda":
        return torch.bfloat16
    capabilities = torch.cpu.get_capabilities()
    native = capabilities.get("avx512_bf16", False) or capabilities.get("amx_bf16", False)
    return torch.bfloat16 if native else torch.float32


def _read(directory: Path, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    try:
        with quiet():
            tree = AutoModelForCausalLM.from_pretrained(
                directory, dtype=dtype, use_safetensors=True, trust_remote_code=False, local_files_only=True
            )
            tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise Invalid(f"{directory} is not a causal language model that can be loaded: {error}") from error
    return tree, tokenizer


def _linears(tree: PreTrainedModel) -> dict[str, Linear]:
    head = tree.get_output_embeddings()
    return {
        name: module
        for name, module in tree.named_modules()
        if isinstance(module, (nn.Linear, Conv1D)) and module is not head
    }


def _named(tree: PreTrainedModel, module: nn.Module | None) -> tuple[str, Any]:
    name = next((name for name, other in tree.named_modules() if other is module), None)
    if module is None or name is None:
        raise Invalid(f"{type(tree).__name__} has no input or output embedding of its own; it cannot be a base")
    return name, module


def _fuse_siblings(linears: Mapping[str, Linear], keep: Keep) -> tuple[Site, ...]:
    """Move sibling weights into one storage and leave views behind; every linear ends up in exactly one site."""
    families: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name in linears:
        parent, _, leaf = name.rpartition(".")
        family = next((group for group in SIBLINGS if leaf in group), (leaf,))
        families[parent, *family].append(name)
    sites: list[Site] = []
    for (_, *order), names in families.items():
        names.sort(key=lambda name: order.index(name.rpartition(".")[2]))
        alike = len({(_shape(linears[name])[1], linears[name].bias is None) for name in names}) == 1
        plain = all(isinstance(linears[name], nn.Linear) for name in names)
        for group in [names] if alike and plain else [[name] for name in names]:
            sites.append(_site(len(sites), group, linears, keep))
    return tuple(sites)


def _site(index: int, names: list[str], linears: Mapping[str, Linear], keep: Keep) -> Site:
    modules = [linears[name] for name in names]
    outs = tuple(_shape(module)[0] for module in modules)
    if len(modules) == 1:
        modules[0].weight.data = keep(modules[0].weight.detach())  # where it is tied, for whoever shares it
        weight, bias = modules[0].weight.detach(), modules[0].bias
        weight = weight.t() if isinstance(modules[0], Conv1D) else weight
        return Site(index, tuple(names), weight, None if bias is None else bias.detach(), outs)
    weight = keep(*(module.weight.detach() for module in modules))
    fused = None if modules[0].bias is None else torch.cat([module.bias.detach() for module in modules])
    site = Site(index, tuple(names), weight, fused, outs)
    for module, rows in zip(modules, site.columns, strict=True):
        module.weight = nn.Parameter(weight[rows], requires_grad=False)
        if fused is not None:
            module.bias = nn.Parameter(fused[rows], requires_grad=False)
    return site


def _joined(*weights: Tensor) -> Tensor:
    """One below the other; a single one is left where it is."""
    return weights[0] if len(weights) == 1 else torch.cat(weights)


def _shape(module: Linear) -> tuple[int, int]:
    """(out_features, in_features); Conv1D keeps its weight the other way round."""
    first, second = module.weight.shape
    return (second, first) if isinstance(module, Conv1D) else (first, second)


def _profile(
    tree: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, source: Source, linears: Mapping[str, Linear]
) -> BaseProfile:
    config = tree.config
    shapes = {name: _shape(module) for name, module in linears.items()}
    hashed = {name: shape for name, shape in shapes.items() if isinstance(linears[name], nn.Linear)}
    architecture = (config.architectures or [type(tree).__name__])[0]
    # What is hashed here stays as it first was: stored versions and bases are found by it.
    shape = {"architecture": architecture, "linears": hashed, "vocab_size": config.vocab_size}
    head_name, head = _named(tree, tree.get_output_embeddings())
    embedding_name, embedding = _named(tree, tree.get_input_embeddings())
    biased = [name for name, module in linears.items() if module.bias is not None]
    return BaseProfile(
        identity=BaseIdentity(
            id=source.id,
            weights_sha256=source.weights_sha256,
            tokenizer_sha256=sha256(_tokenizer_bytes(tokenizer)),
            template_sha256=sha256(str(tokenizer.chat_template or "").encode()),
            shape_sha256=sha256(canonical(shape)),
        ),
        names=source.names,
        architecture=architecture,
        hidden_size=config.hidden_size,
        num_layers=config.num_hidden_layers,
        vocab_size=config.vocab_size,
        context_length=config.max_position_embeddings,
        linears=shapes,
        transposed=tuple(name for name, module in linears.items() if isinstance(module, Conv1D)),
        biased=tuple(biased if head.bias is None else [*biased, head_name]),
        embeddings={embedding_name: tuple(embedding.weight.shape)},
        heads={head_name: tuple(head.weight.shape)},
        is_tied=head.weight is embedding.weight,
    )


def _tokenizer_bytes(tokenizer: PreTrainedTokenizerFast) -> bytes:
    """What turns text into ids and back, without the truncation and padding state of the moment."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    lasting = {key: value for key, value in state.items() if key not in ("truncation", "padding", "version")}
    return json.dumps(lasting, sort_keys=True, ensure_ascii=False).encode()


def _end_tokens(tree: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> frozenset[int]:
    configured = getattr(tree.generation_config, "eos_token_id", None)
    ids = configured if isinstance(configured, list) else [configured]
    return frozenset(int(token) for token in (*ids, tokenizer.eos_token_id) if token is not None)
