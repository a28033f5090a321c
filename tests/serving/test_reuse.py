"""Reusing computed prefixes changes how much is computed and nothing else."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from registry.errors import Invalid
from registry.settings import Settings
from serving.base import Base
from serving.engine import Engine
from serving.request import Finished, Request, Sampling

from .listener import Listener, wait_until
from .zoo import Zoo

SYSTEM = tuple(random.Random(1).choices(range(3, 250), k=300))


@pytest.fixture
def engine(tiny_base: Base) -> Iterator[Engine]:
    engine = Engine(tiny_base, max_batch=8, kv_tokens=8192, prefill_tokens=64, prefix_tokens=8192)
    engine.start()
    yield engine
    engine.close()
    engine.check_integrity()
    assert engine.stats().kv_used == 0


def ask(name: str, prompt: tuple[int, ...], **fields: Any) -> Request:
    sampling = {"max_tokens": 6, "temperature": 0.0, "ignore_eos": True} | fields.pop("sampling", {})
    return Request(name, prompt, Sampling(**sampling), **fields)


def workload(zoo: Zoo, seed: int) -> list[Request]:
    """Rows of few owners whose prompts begin alike, with answers long enough to grow out of their regions."""
    rng = random.Random(seed)
    requests = []
    for number in range(24):
        shared = SYSTEM[: rng.choice([0, 20, 70, 130, 200, 300])]
        own = tuple(rng.choices(range(3, 250), k=rng.randint(1, 40)))
        scored = rng.random() < 0.25
        request = ask(
            f"r{number}",
            shared + own,
            adapter=zoo.adapter(rng.choice([None, 0, 1])),
            tenant=rng.choice("ab"),
            score_from=rng.choice([0, 50, len(shared + own) - 1]) if scored else None,
            prompt_logprobs=2 if scored else None,
            want_features=rng.random() < 0.3,
            sampling={"max_tokens": rng.choice([0, 1, 8, 150]), "temperature": rng.choice([0.0, 0.9]), "seed": number},
        )
        requests.append(request)
    return requests


def play(engine: Engine, requests: list[Request], cancelled: set[int]) -> list[Listener]:
    listeners = []
    for number, request in enumerate(requests):
        stop = (lambda name=request.id: engine.abort(name)) if number in cancelled else None
        listeners.append(Listener(at_first_token=stop))
        engine.submit(request, listeners[-1])
    for listener in listeners:
        assert listener.finished.reason in ("length", "abort"), listener.finished.error
    return listeners


@pytest.mark.parametrize("seed", range(6))
def test_tokens_scores_and_features_are_those_of_computing_everything(tiny_base: Base, zoo: Zoo, seed: int) -> None:
    rng = random.Random(100 + seed)
    size = {"max_batch": 6, "kv_tokens": rng.choice([1024, 2048, 8192]), "prefill_tokens": rng.choice([40, 512])}
    reusing = Engine(tiny_base, prefix_tokens=size["kv_tokens"], **size)
    computing = Engine(tiny_base, prefix_tokens=0, **size)
    requests, cancelled = workload(zoo, seed), set(rng.sample(range(24), k=4))
    for engine in (reusing, computing):
        engine.start()
    pairs = zip(play(reusing, requests, cancelled), play(computing, requests, set()), strict=True)
    for number, (ours, theirs) in enumerate(pairs):
        if number in cancelled and ours.finished.reason == "abort":
            continue
        assert [token.id for token in ours.tokens] == [token.id for token in theirs.tokens], requests[number].id
        assert_same_knowledge(ours.finished, theirs.finished)
    assert reusing.stats().prefix_hits > 0
    assert computing.stats().prefix_hits == computing.stats().kv_cached == 0
    for engine in (reusing, computing):
        engine.close()
        engine.check_integrity()
        assert engine.stats().kv_used == 0


def assert_same_knowledge(ours: Finished, theirs: Finished) -> None:
    assert replace(ours.usage, cached_tokens=0) == theirs.usage
    assert (ours.prompt_logprobs is None) == (theirs.prompt_logprobs is None)
    if ours.prompt_logprobs is not None and theirs.prompt_logprobs is not None:
        assert ours.prompt_logprobs == pytest.approx(theirs.prompt_logprobs, abs=1e-3)
        assert len(ours.prompt_top or ()) == len(ours.prompt_logprobs)
    assert (ours.features is None) == (theirs.features is None)
    if ours.features is not None and theirs.features is not None:
        np.testing.assert_allclose(ours.features.hidden_mean, theirs.features.hidden_mean, atol=1e-3)
        np.testing.assert_array_equal(ours.features.embedding_mean, theirs.features.embedding_mean)


def test_a_second_turn_is_cheap(engine: Engine) -> None:
    (first,) = engine.run([ask("one", SYSTEM, sampling={"max_tokens": 20})])
    before = engine.stats().prompt_tokens
    engine.run([ask("two", (*SYSTEM, *first.tokens, 5, 6, 7))])
    assert engine.stats().prompt_tokens - before == 4, "the last sampled token and the three new ones"
    assert engine.stats().prefix_tokens_reused == 300 + 19


def test_answers_to_one_prompt_compute_it_once(engine: Engine) -> None:
    requests = [ask(f"n{n}", SYSTEM, sampling={"temperature": 1.0, "seed": n}) for n in range(5)]
    completions = engine.run(requests)
    assert engine.stats().prompt_tokens < 300 + 4 * 64
    assert len({completion.tokens for completion in completions}) > 1


def test_nothing_is_shared_between_tenants_or_digests(engine: Engine, zoo: Zoo) -> None:
    engine.run([ask("base", SYSTEM)])
    others = [ask("tenant", SYSTEM, tenant="other"), ask("adapter", SYSTEM, adapter=zoo.adapter(1))]
    others.append(ask("digest", SYSTEM, adapter=replace(zoo.adapters[1], digest="sha256:other")))
    engine.run(others)
    assert engine.stats().prefix_hits == 0


def test_features_go_on_from_a_mark(engine: Engine) -> None:
    (first,) = engine.run([ask("one", SYSTEM, want_features=True)])
    (second,) = engine.run([ask("two", (*SYSTEM, 9, 9), want_features=True)])
    assert engine.stats().prefix_tokens_reused == 256
    (alone,) = engine.run([ask("alone", (*SYSTEM, 9, 9), want_features=True, tenant="other")])
    assert first.features is not None
    assert second.features is not None
    assert alone.features is not None
    np.testing.assert_allclose(second.features.hidden_mean, alone.features.hidden_mean, atol=1e-4)


def test_scores_begin_where_they_are_asked_for(engine: Engine) -> None:
    (plain,) = engine.run([ask("one", SYSTEM, score_from=0)])
    (late,) = engine.run([ask("two", SYSTEM, score_from=200, prompt_logprobs=3)])
    assert engine.stats().prefix_tokens_reused == 199
    assert plain.prompt_logprobs is not None
    assert late.prompt_logprobs == pytest.approx(plain.prompt_logprobs[199:], abs=1e-4)
    assert late.prompt_top is not None
    assert [len(top) for top in late.prompt_top] == [3] * 100


def test_kept_prefixes_yield_to_rows(tiny_base: Base) -> None:
    engine = Engine(tiny_base, max_batch=2, kv_tokens=1024, prefix_tokens=1024)
    for number in range(12):
        prompt = tuple(random.Random(number).choices(range(3, 250), k=200))
        (completion,) = engine.run([ask(f"k{number}", prompt)])
        assert completion.reason == "length"
    wait_until(lambda: engine.stats().kv_used == 0)
    assert 0 < engine.stats().kv_cached <= 1024
    (longest,) = engine.run([ask("longest", SYSTEM * 3, sampling={"max_tokens": 100})])
    assert longest.reason == "length"
    assert engine.stats().preemptions == 0
    engine.close()
    engine.check_integrity()


@pytest.mark.parametrize(("prefix_tokens", "reused"), [(0, False), (None, True)])
def test_the_setting_says_how_much_is_kept(
    tiny_base: Base, tiny_settings: Settings, prefix_tokens: int | None, reused: bool
) -> None:
    engine = Engine.from_settings(tiny_base, msgspec.structs.replace(tiny_settings, prefix_tokens=prefix_tokens))
    engine.run([ask("first", SYSTEM)])
    engine.run([ask("second", SYSTEM)])
    assert (engine.stats().prefix_tokens_reused > 0) == reused
    engine.close()


@pytest.mark.parametrize("prefix_tokens", [-1, 8193])
def test_no_more_is_kept_than_there_is(tiny_base: Base, prefix_tokens: int) -> None:
    with pytest.raises(Invalid, match="prefix_tokens"):
        Engine(tiny_base, kv_tokens=8192, prefix_tokens=prefix_tokens)
