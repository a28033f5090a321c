"""A failing adapter, numbers that are not finite, an exception in a step: that request errors, all else goes on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from registry.errors import Corrupt, LorimerError, Unavailable
from registry.settings import Settings
from serving.adapter import LoadedAdapter
from serving.base import Base, load_base
from serving.delta import Delta, Part
from serving.engine import Engine
from serving.request import Completion, Request, Sampling
from serving.sampler import Choice, Draw, choose

from .listener import Listener
from .zoo import Zoo

PROMPT = tuple(range(10, 110))


class Faults:
    """Keeps what the engine reports."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, LorimerError]] = []

    def __call__(self, adapter: LoadedAdapter, error: LorimerError) -> None:
        self.seen.append((adapter.digest, error))


def make_engine(base: Base, on_fault: Any = None, **options: Any) -> Engine:
    sizes = {"max_batch": 6, "kv_tokens": 4096, "prefill_tokens": 256} | options
    return Engine(base, on_fault=on_fault, **sizes)


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def engine(tiny_base: Base, faults: Faults) -> Iterator[Engine]:
    engine = make_engine(tiny_base, faults)
    yield engine
    engine.close()
    engine.check_integrity()
    assert engine.stats().kv_used == 0


def request(name: str, prompt: tuple[int, ...], adapter: Any = None, **sampling: Any) -> Request:
    options = {"max_tokens": 8, "temperature": 0.0, "ignore_eos": True, "logprobs": 2} | sampling
    return Request(name, prompt, Sampling(**options), adapter)


def poisoned(zoo: Zoo, name: str = "bad") -> LoadedAdapter:
    """An adapter whose numbers blow up for whoever uses it."""
    adapter = zoo.adapters[0]
    deltas = {
        site: replace(delta, parts=tuple(replace(part, b=torch.full_like(part.b, 3e38)) for part in delta.parts))
        for site, delta in adapter.deltas.items()
    }
    return replace(adapter, digest=name, name=name, deltas=deltas)


def broken(zoo: Zoo, name: str = "bad") -> LoadedAdapter:
    """An adapter of the wrong shape, as if validation had let one slip."""
    adapter = zoo.adapters[0]
    deltas = {
        site: replace(delta, a=None if delta.a is None else delta.a[:-1]) for site, delta in adapter.deltas.items()
    }
    return replace(adapter, digest=name, name=name, deltas=deltas)


def said(completion: Completion) -> tuple[Any, ...]:
    return completion.tokens, completion.logprobs, completion.text, completion.reason


@pytest.mark.parametrize(("spoil", "error"), [(poisoned, Corrupt), (broken, Unavailable)])
@pytest.mark.parametrize("length", [1, 20, 100])
def test_a_failing_adapter_fails_alone_and_is_reported(  # noqa: PLR0917
    engine: Engine, faults: Faults, zoo: Zoo, spoil: Any, error: type, length: int
) -> None:
    good = [request(f"g{i}", PROMPT[:length], zoo.adapter(i), max_tokens=20) for i in (None, 1, 2)]
    expected = engine.run(good)
    bad = request("bad", PROMPT[:length], spoil(zoo), max_tokens=20)
    mixed = engine.run([good[0], bad, *good[1:]])
    assert isinstance(mixed[1].error, error)
    assert "adapter bad" in mixed[1].error.message
    assert faults.seen == [("bad", mixed[1].error)]
    assert [mixed[place].tokens for place in (0, 2, 3)] == [completion.tokens for completion in expected]
    assert [completion.tokens for completion in engine.run(good)] == [completion.tokens for completion in expected]
    assert engine.stats().failed_rows == 1


@pytest.mark.parametrize("length", [1, 30])
def test_an_exception_leaves_the_mates_as_if_the_row_had_never_been(tiny_base: Base, zoo: Zoo, length: int) -> None:
    """Bit for bit, tokens and log-probabilities: after the culprit is found, the others are computed together again."""
    mates = [request(f"m{i}", PROMPT[i or 0 : length + (i or 0)], zoo.adapter(i), max_tokens=12) for i in (None, 1, 2)]
    runs = []
    for others in ([], [request("bad", PROMPT[:length], broken(zoo))]):
        engine = make_engine(tiny_base, prefix_tokens=0)
        runs.append(together(engine, [*others, *mates])[len(others) :])
        engine.close()
    assert runs[0] == runs[1]


@pytest.mark.parametrize("length", [1, 30])
def test_numbers_that_are_not_finite_change_no_bit_of_the_mates(tiny_base: Base, zoo: Zoo, length: int) -> None:
    """Bit for bit, beside the same batch with a sound row in the failing row's place that ends when that one fails."""
    mates = [request(f"m{i}", PROMPT[i or 0 : length + (i or 0)], zoo.adapter(i), max_tokens=12) for i in (None, 1, 2)]
    sound = replace(zoo.adapters[0], digest="sound")
    runs = []
    for adapter in (sound, poisoned(zoo)):
        engine = make_engine(tiny_base, prefix_tokens=0)
        first = request("first", PROMPT[:length], adapter, max_tokens=1)
        runs.append(together(engine, [first, *mates])[1:])
        engine.close()
    assert runs[0] == runs[1]


def together(engine: Engine, requests: list[Request]) -> list[tuple[Any, ...]]:
    """All requests in one batch from the first step on."""
    listeners = [Listener() for _ in requests]
    for each, listener in zip(requests, listeners, strict=True):
        engine.submit(each, listener)
    engine.start()
    return [
        (listener.finished.reason, [(token.id, token.text, token.logprob, token.top) for token in listener.tokens])
        for listener in listeners
    ]


def test_a_row_that_fails_in_the_middle_of_its_prompt_leaves_nothing_behind(
    tiny_base: Base, zoo: Zoo, faults: Faults
) -> None:
    engine = make_engine(tiny_base, faults, prefill_tokens=32)
    bad = replace(poisoned(zoo))
    (failed,) = engine.run([request("bad", PROMPT, bad)])
    assert isinstance(failed.error, Corrupt)
    assert engine.stats().steps == 1, "the first chunk told"
    assert engine.stats().kv_cached == 0
    cache = engine._forward._cache
    assert all(bool(torch.isfinite(tensor).all()) for tensor in (*cache.keys, *cache.values))
    good = [request(f"g{n}", PROMPT[: 60 + n]) for n in range(3)]
    assert all(completion.error is None for completion in engine.run(good))
    engine.close()


def test_nobody_waits_for_or_copies_from_a_failed_row(tiny_base: Base, zoo: Zoo, faults: Faults) -> None:
    engine = make_engine(tiny_base, faults, prefill_tokens=32)
    completions = engine.run([request(f"b{n}", PROMPT, poisoned(zoo)) for n in range(3)])
    assert all(isinstance(completion.error, Corrupt) for completion in completions)
    assert engine.stats().prefix_hits == engine.stats().kv_cached == 0
    assert len(faults.seen) == 3
    engine.close()


def test_a_failing_listener_fails_alone_and_blames_no_adapter(engine: Engine, faults: Faults, zoo: Zoo) -> None:
    def explode() -> None:
        raise RuntimeError("the client went away")

    engine.start()
    bad, good = Listener(at_first_token=explode), Listener()
    engine.submit(request("bad", PROMPT, zoo.adapter(1)), bad)
    engine.submit(request("good", PROMPT, zoo.adapter(1)), good)
    assert good.finished.reason == "length"
    assert bad.finished.reason == "error"
    assert not faults.seen


def test_a_draw_that_fails_fails_alone_and_blames_no_adapter(
    engine: Engine, faults: Faults, zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def choose_but(logits: torch.Tensor, draws: Sequence[Draw]) -> list[Choice | None]:
        if any(draw.sampling.seed == 13 for draw in draws):
            raise IndexError("unlucky")
        return choose(logits, draws)

    monkeypatch.setattr("serving.drawing.choose", choose_but)
    bad, good = request("bad", PROMPT, zoo.adapter(1), seed=13), request("good", PROMPT, zoo.adapter(1))
    failed, sound = engine.run([bad, good])
    assert failed.reason == "error"
    assert sound.reason == "length"
    assert not faults.seen


ODD, EVERY = 5, tuple(range(20, 40))


def told_apart(base: Base, odd: float, every: float) -> torch.Tensor:
    """What, times the first layer's input, gives one number for the odd token and another for every other."""
    embeddings = base.input_embeddings[[ODD, *EVERY]].float()
    inputs = embeddings / embeddings.pow(2).mean(dim=1, keepdim=True).sqrt()
    return torch.linalg.lstsq(inputs, torch.tensor([odd] + [every] * len(EVERY))).solution


def odd_one(base: Base, **rows: tuple[float, float, float]) -> LoadedAdapter:
    """Adds to the slowest feature of each head: so much for the odd token, so much for every other, times a number."""
    site = base.sites[0]
    parts, columns = [], []
    for start, (name, (odd, every, times)) in enumerate(rows.items()):
        sibling = ("q", "k", "v").index(name)
        b = torch.zeros(1, site.out_features[sibling])
        b[0, 3::8] = times
        parts.append(Part(sibling, start, start + 1, b))
        columns.append(told_apart(base, odd, every))
    return LoadedAdapter.make("odd", "odd", {site.index: Delta(torch.stack(columns, dim=1), tuple(parts))})


@pytest.mark.parametrize("natively", [True, False])
def test_a_key_that_overflows_unseen_harms_nobody_who_has_the_region_next(tiny_base: Base, natively: bool) -> None:
    """Every query turned its back on it: no number of its own row told, but its bias did not hide it from the next."""
    engine = make_engine(tiny_base, kv_tokens=256, prefix_tokens=0)
    engine._forward._stack = engine._forward._stack if natively else None
    bad = odd_one(tiny_base, q=(1.0, 1.0, -1e4), k=(50.0, 0.0, 1e38))
    (done,) = engine.run([request("bad", (*[20] * 39, ODD, *EVERY), bad, max_tokens=1)])
    assert done.error is None
    cache = engine._forward._cache
    assert all(bool(torch.isfinite(tensor).all()) for tensor in (*cache.keys, *cache.values))
    assert max(float(keys.abs().max()) for keys in cache.keys) == pytest.approx(1e18)
    engine._forward._stack = None  # the tree reads regions whole
    (next_one,) = engine.run([request("next", (30, 31, 32))])
    assert next_one.error is None
    engine.close()


def test_a_token_that_the_last_does_not_look_back_to_fails_its_row(tiny_base_dir: Path, tmp_path: Path) -> None:
    directory = tmp_path / "mistral"
    shutil.copytree(tiny_base_dir, directory, ignore=shutil.ignore_patterns("*.safetensors"))
    config = transformers.MistralConfig(
        **transformers.AutoConfig.from_pretrained(tiny_base_dir).to_dict() | {"sliding_window": 8}
    )
    transformers.MistralForCausalLM(config).save_pretrained(directory)
    base = load_base(Settings(base=str(directory), dtype="float32", device="cpu", cache_dir=str(tmp_path), threads=1))
    engine = make_engine(base, prefix_tokens=0)
    bad = odd_one(base, v=(50.0, 0.0, 1e38))
    (failed,) = engine.run([request("bad", (*[20] * 39, ODD, *EVERY * 9), bad, max_tokens=1)])
    assert isinstance(failed.error, Corrupt)
    cache = engine._forward._cache
    assert all(bool(torch.isfinite(tensor).all()) for tensor in (*cache.keys, *cache.values))
    engine.close()
