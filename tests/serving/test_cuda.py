"""The law on a CUDA device: the module tree with packed adapters, every kind beside every other."""

from __future__ import annotations

import msgspec
import pytest
import torch

from registry.settings import Settings
from serving.adapter import LoadedAdapter
from serving.base import Base, load_base
from serving.engine import Engine
from serving.forward import Forward
from serving.request import Request, Sampling

from .zoo import KINDS, Zoo, walk

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here: nothing was run on one"),
]
PROMPT = tuple(3 + 7 * place % 250 for place in range(70))
CHOICES = (None, *range(len(KINDS)))


@pytest.fixture(scope="module")
def cuda_base(tiny_settings: Settings) -> Base:
    return load_base(msgspec.structs.replace(tiny_settings, device="cuda"))


@pytest.fixture(scope="module")
def cuda_zoo(cuda_base: Base, zoo: Zoo) -> Zoo:
    adapters = [LoadedAdapter.from_directory(directory, cuda_base) for directory in zoo.directories]
    return Zoo(cuda_base, zoo.directories, adapters)


def test_logits_are_pefts(cuda_zoo: Zoo, zoo: Zoo) -> None:
    rows = [(index, PROMPT[: 5 + 3 * place]) for place, index in enumerate(CHOICES)]
    for index, tokens, logits in walk(Forward(cuda_zoo.base, 8192), cuda_zoo, rows, extra=6):
        expected = zoo.logits(index, tokens[:-1])
        torch.testing.assert_close(logits[-len(expected) :].cpu(), expected, atol=1e-4, rtol=0)


def test_greedy_tokens_are_pefts(cuda_zoo: Zoo, zoo: Zoo) -> None:
    engine = Engine(cuda_zoo.base, kv_tokens=8192)
    sampling = Sampling(max_tokens=12, temperature=0, ignore_eos=True)
    rows = [index for index in CHOICES if index is None or not cuda_zoo.adapters[index].num_virtual]
    requests = [
        Request(f"c{place}", PROMPT[place:40], sampling, cuda_zoo.adapter(index)) for place, index in enumerate(rows)
    ]
    completions = engine.run(requests)
    engine.close()
    for index, request, completion in zip(rows, requests, completions, strict=True):
        assert completion.tokens == zoo.greedy(index, request.prompt, completion.tokens)
