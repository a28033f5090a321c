"""The same law on SmolLM2-135M, from the GGUF: the template, the cache, and parity with PEFT."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from registry.settings import Settings, load_settings
from serving.adapter import LoadedAdapter
from serving.base import Base, load_base
from serving.engine import Engine
from serving.request import Request, Sampling
from serving.source import DIGEST_FILE, locate

from .conftest import Zoo

pytestmark = pytest.mark.real_model

KINDS: tuple[dict[str, Any], ...] = (
    {"rank": 16},
    {"rank": 4, "use_rslora": True},
    {"rank": 8, "targets": ("q_proj", "v_proj")},
    {"rank": 2, "targets": ("down_proj", "gate_proj")},
    {"rank": 8, "rank_pattern": {"q_proj": 32}, "alpha_pattern": {"o_proj": 4}},
    {"rank": 32},
    {"rank": 6, "layers_to_transform": [3, 7, 20]},
    {"rank": 1},
)
QUESTIONS = (
    "What is the capital of France?",
    "Write a haiku about horses.",
    "List three colours.",
    "Why is the sky blue?",
)


def test_the_template_and_its_tokens(real_base: Base) -> None:
    tokens = real_base.render([{"role": "user", "content": "hi"}])
    assert real_base.tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_start|>", "<|im_end|>"]) == [0, 1, 2]
    assert tokens[0] == 1
    assert tokens.count(2) == 2
    assert real_base.eos_token_ids == {2}


def test_the_bare_base_answers(real_base: Base) -> None:
    engine = Engine(real_base, kv_tokens=4096)
    prompt = tuple(real_base.render([{"role": "user", "content": QUESTIONS[0]}]))
    (completion,) = engine.run([Request("q", prompt, Sampling(max_tokens=20, temperature=0))])
    engine.close()
    assert "Paris" in completion.text
    assert completion.reason == "stop"


def test_mixed_batches_are_pefts(real_base: Base, make_real_adapter: Any) -> None:
    directories = [make_real_adapter(seed=seed, **kind) for seed, kind in enumerate(KINDS)]
    adapters = [LoadedAdapter.from_directory(path, real_base) for path in directories]
    zoo = Zoo(real_base, directories, adapters)
    engine = Engine(real_base, max_batch=12, kv_tokens=8192, prefill_tokens=96)
    asked: list[tuple[int | None, tuple[int, ...]]] = []
    for number in range(12):
        index = (None, *range(len(KINDS)))[number % (len(KINDS) + 1)]
        messages = [{"role": "user", "content": QUESTIONS[number % len(QUESTIONS)]}]
        asked.append((index, tuple(real_base.render(messages))))
    sampling = Sampling(max_tokens=16, temperature=0, ignore_eos=True, logprobs=0)
    completions = engine.run(Request(f"r{n}", p, sampling, zoo.adapter(i)) for n, (i, p) in enumerate(asked))
    engine.close()
    for (index, prompt), completion in zip(asked, completions, strict=True):
        reference = zoo.logits(index, [*prompt, *completion.tokens[:-1]])[len(prompt) - 1 :]
        assert completion.tokens == tuple(reference.argmax(dim=-1).tolist())
        logprobs = torch.log_softmax(reference, dim=-1)
        expected = logprobs.gather(1, torch.tensor(completion.tokens)[:, None])[:, 0].tolist()
        assert completion.logprobs == pytest.approx(expected, abs=1e-4)


def test_the_second_load_is_quick(real_base: Base) -> None:
    started = time.monotonic()
    load_base(load_settings({"base": "smollm2-135m"}))
    assert time.monotonic() - started < 10


def test_a_damaged_cache_is_converted_again(real_base: Base, tmp_path: Path) -> None:
    settings = Settings(base="smollm2-135m")
    (cached,) = (load_settings().cache_path() / "bases").glob("b179c9523d0e6a0f*-v2")
    shutil.copytree(cached, tmp_path / "bases" / cached.name)
    weights = tmp_path / "bases" / cached.name / "model.safetensors"
    with weights.open("r+b") as file:
        file.seek(-64, 2)
        file.write(b"\xff" * 64)
    said: list[str] = []
    source = locate(settings.base, tmp_path, said.append)
    assert any("damaged" in line for line in said)
    assert (source.directory / DIGEST_FILE).read_text() == source.weights_sha256
    assert source.weights_sha256 == real_base.profile.identity.weights_sha256
