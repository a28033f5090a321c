"""The law: in any batch, every row is what PEFT with that one adapter alone would have given."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.settings import Settings
from serving import native
from serving.adapter import LoadedAdapter
from serving.base import Base, load_base
from serving.blueprint import SlabDeltas
from serving.engine import Engine
from serving.forward import Forward
from serving.request import Request, Sampling
from serving.slab import PAGE

from .zoo import KINDS, Zoo, walk

CHOICES = (None, *range(len(KINDS)))
PROMPTS = tuple(
    tuple(3 + (31 * seed + place * (seed + 3)) % 256 for place in range(length))
    for seed, length in enumerate((1, 2, 5, 17, 40, 90))
)


def request(number: int, zoo: Zoo, index: int | None, prompt: tuple[int, ...], max_tokens: int = 8) -> Request:
    sampling = Sampling(max_tokens=max_tokens, temperature=0, ignore_eos=True)
    return Request(f"r{number}", prompt, sampling, zoo.adapter(index))


@pytest.fixture(scope="module")
def engine(tiny_base: Base) -> Any:
    engine = Engine(tiny_base, max_batch=12, kv_tokens=4096, prefill_tokens=48)
    yield engine
    engine.close()


def test_logits_agree_in_prefill_chunks_and_decode(zoo: Zoo) -> None:
    """Every position of every row, within 1e-4, with all kinds and base rows in each step."""
    forward = Forward(zoo.base, 8192)
    asked = [(CHOICES[number % len(CHOICES)], PROMPTS[number % len(PROMPTS)]) for number in range(2 * len(CHOICES))]
    for index, tokens, logits in walk(forward, zoo, asked, extra=6):
        assert len(logits) == len(tokens) - 1
        torch.testing.assert_close(logits, zoo.logits(index, tokens[:-1]), atol=1e-4, rtol=0)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=st.lists(st.tuples(st.sampled_from(CHOICES), st.sampled_from(PROMPTS)), min_size=1, max_size=14))
def test_greedy_tokens_are_pefts_whatever_the_batch_mates(
    engine: Engine, zoo: Zoo, batch: list[tuple[int | None, tuple[int, ...]]]
) -> None:
    completions = engine.run(request(number, zoo, *row) for number, row in enumerate(batch))
    for (index, prompt), completion in zip(batch, completions, strict=True):
        assert completion.error is None
        assert len(completion.tokens) == 8
        assert completion.tokens == zoo.greedy(index, prompt, completion.tokens)
    engine.check_integrity()


def test_tokens_survive_preemption_and_growth(zoo: Zoo) -> None:
    """A cache too small for its rows: they grow, move, start over, and still say the same."""
    engine = Engine(zoo.base, max_batch=6, kv_tokens=384, prefill_tokens=64)
    requests = [request(number, zoo, number % 5, PROMPTS[3], max_tokens=120) for number in range(6)]
    completions = engine.run(requests)
    assert engine.stats().preemptions > 0
    engine.check_integrity()
    engine.close()
    for number, completion in enumerate(completions):
        assert len(completion.tokens) == 120
        assert completion.tokens == zoo.greedy(number % 5, PROMPTS[3], completion.tokens)


def test_prompt_logprobs_are_pefts(engine: Engine, zoo: Zoo) -> None:
    prompt = PROMPTS[5]
    asked = [Request(f"s{i}", prompt, Sampling(max_tokens=0), zoo.adapter(i), score_from=4) for i in (None, 2, 6)]
    for index, completion in zip((None, 2, 6), engine.run(asked), strict=True):
        logprobs = torch.log_softmax(zoo.logits(index, list(prompt)), dim=-1)
        expected = [float(logprobs[place - 1, prompt[place]]) for place in range(4, len(prompt))]
        assert completion.prompt_logprobs == pytest.approx(expected, abs=1e-4)
        assert completion.tokens == ()


def test_features_are_the_passes_own(engine: Engine, zoo: Zoo) -> None:
    prompt, index = PROMPTS[5], 3
    sampling = Sampling(max_tokens=2, temperature=0)
    (completion,) = engine.run([Request("f", prompt, sampling, zoo.adapter(index), want_features=True)])
    assert completion.features is not None
    zoo.logits(index, list(prompt))
    with torch.no_grad():
        model = zoo._models[index].get_base_model()
        hidden = model.model(torch.tensor([prompt])).last_hidden_state[0].mean(dim=0)
        embedding = zoo.base.input_embeddings[list(prompt)].mean(dim=0)
    assert completion.features.num_prompt_tokens == len(prompt)
    torch.testing.assert_close(torch.from_numpy(completion.features.hidden_mean), hidden, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(torch.from_numpy(completion.features.embedding_mean), embedding)


def test_bare_rows_are_the_same_beside_adapters(engine: Engine, zoo: Zoo) -> None:
    sampling = Sampling(max_tokens=6, temperature=0, logprobs=0, ignore_eos=True)
    rows = [Request(f"b{i}", PROMPTS[3], sampling) for i in range(4)]
    alone = engine.run(rows)
    mates = [Request(f"m{i}", PROMPTS[3], sampling, zoo.adapters[i]) for i in range(4)]
    mixed = engine.run([*rows, *mates])
    for one, other in zip(alone, mixed[:4], strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)


@pytest.mark.parametrize("with_kernel", [True, False])
def test_bfloat16_stays_near_float32(
    zoo: Zoo, tiny_settings: Settings, monkeypatch: pytest.MonkeyPatch, with_kernel: bool
) -> None:
    """Decode in the working type, with the native kernel and without: close to PEFT in float32 on the same tokens."""
    if not with_kernel:
        monkeypatch.setattr(native, "kernel", lambda _dtype: None)
    base = load_base(msgspec.structs.replace(tiny_settings, dtype="bfloat16"))
    adapters = [LoadedAdapter.from_directory(path, base) for path in zoo.directories]
    engine = Engine(base, kv_tokens=4096)
    sampling = Sampling(max_tokens=6, temperature=0, ignore_eos=True, logprobs=0)
    completions = engine.run(Request(f"b{i}", PROMPTS[3], sampling, each) for i, each in enumerate(adapters))
    engine.close()
    for index, completion in enumerate(completions):
        logits = zoo.logits(index, [*PROMPTS[3], *completion.tokens[:-1]])[len(PROMPTS[3]) - 1 :]
        logprobs = torch.log_softmax(logits, dim=-1).gather(1, torch.tensor(completion.tokens)[:, None])[:, 0]
        assert completion.logprobs == pytest.approx(logprobs.tolist(), abs=0.5)


def test_a_loaded_adapter_knows_its_size(zoo: Zoo) -> None:
    for adapter in zoo.adapters:
        changes = [*adapter.deltas.values(), adapter.head, adapter.embedding]
        size = sum(change.num_bytes for change in changes if change is not None)
        size += 0 if adapter.virtual is None else adapter.virtual.nbytes
        if isinstance(adapter.deltas, SlabDeltas):
            assert adapter.num_bytes == adapter.deltas.memory.nbytes >= size > adapter.num_bytes - 2 * PAGE
        else:
            assert adapter.num_bytes == size > 0
