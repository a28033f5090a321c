from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from registry.errors import Busy, Conflict, Invalid, Unavailable
from serving.base import Base
from serving.engine import Engine
from serving.request import Request, Sampling

from .listener import Listener, wait_until
from .zoo import Zoo

PROMPT = tuple(range(10, 30))


def request(name: str = "r", prompt: tuple[int, ...] = PROMPT, adapter: Any = None, **sampling: Any) -> Request:
    options = {"max_tokens": 8, "temperature": 0.0, "ignore_eos": True} | sampling
    return Request(name, prompt, Sampling(**options), adapter)


@pytest.fixture
def engine(tiny_base: Base) -> Iterator[Engine]:
    engine = Engine(tiny_base, max_batch=4, max_waiting=4, kv_tokens=4096, prefill_tokens=64)
    engine.start()
    yield engine
    engine.close()
    engine.check_integrity()
    assert engine.stats().kv_used == 0
    assert engine.stats().running == engine.stats().waiting == 0


def test_events_come_in_order_and_add_up(engine: Engine) -> None:
    listener = Listener()
    engine.submit(request(logprobs=2), listener)
    assert listener.finished.reason == "length"
    assert listener.finished.usage.completion_tokens == len(listener.tokens) == 8
    assert all(len(token.top) == 2 and token.logprob is not None for token in listener.tokens)
    text = "".join(token.text for token in listener.tokens)
    assert text == engine.base.tokenizer.decode([token.id for token in listener.tokens], skip_special_tokens=True)
    timings = listener.finished.timings
    assert min(timings.queued_s, timings.prefill_s, timings.decode_s) >= 0


def test_the_end_token_ends_the_answer_unless_ignored(engine: Engine) -> None:
    (free,) = engine.run([request(max_tokens=8)])
    end = free.tokens[3]
    (stopped,) = engine.run([request(max_tokens=8, stop_token_ids=(end,))])
    assert stopped.reason == "stop"
    assert stopped.tokens == free.tokens[: free.tokens.index(end) + 1]


def test_min_tokens_holds_the_end_off(engine: Engine) -> None:
    (free,) = engine.run([request()])
    (held,) = engine.run([request(stop_token_ids=(free.tokens[0],), min_tokens=4)])
    assert len(held.tokens) >= 4
    assert free.tokens[0] not in held.tokens[:4]


def test_a_stop_string_ends_the_answer_without_showing(engine: Engine) -> None:
    (free,) = engine.run([request(max_tokens=40)])
    stop = next(text for text in free.text if text.isascii() and text.isprintable())
    (stopped,) = engine.run([request(max_tokens=40, stop=(stop,))])
    assert stopped.reason == "stop"
    assert stopped.text == free.text[: free.text.index(stop)]


def test_a_seeded_answer_is_the_same_in_any_company(engine: Engine) -> None:
    wish = request("seeded", temperature=1.5, seed=11, max_tokens=24, top_p=0.95)
    (alone,) = engine.run([wish])
    mates = [request(f"m{i}", PROMPT[i:], temperature=1.0, max_tokens=30) for i in range(5)]
    crowd = engine.run([*mates[:2], wish, *mates[2:]])
    assert crowd[2].tokens == alone.tokens
    assert len({completion.tokens for completion in engine.run([replace(wish, id=f"u{i}") for i in range(3)])}) == 1


def test_unseeded_answers_differ(engine: Engine) -> None:
    requests = [request(f"u{i}", temperature=1.5, max_tokens=24) for i in range(4)]
    assert len({completion.tokens for completion in engine.run(requests)}) > 1


@pytest.mark.parametrize("state", ["running", "waiting"])
def test_an_abort_frees_the_row_in_any_state(engine: Engine, state: str) -> None:
    others = [Listener() for _ in range(4 if state == "waiting" else 0)]
    for number, other in enumerate(others):
        engine.submit(request(f"o{number}", max_tokens=400), other)
    listener = Listener(at_first_token=lambda: engine.abort("victim"))
    engine.submit(request("victim", max_tokens=900), listener)
    if state == "waiting":
        wait_until(lambda: engine.stats().running == 4)
        engine.abort("victim")
    assert listener.finished.reason == "abort"
    assert len(listener.tokens) <= 2
    for number in range(len(others)):
        engine.abort(f"o{number}")
    for other in others:
        assert other.finished.reason == "abort"


def test_a_deadline_drops_the_work(engine: Engine) -> None:
    listener = Listener()
    late = replace(request(max_tokens=900), deadline=time.monotonic() + 0.15)
    engine.submit(late, listener)
    assert listener.finished.reason == "deadline"
    assert len(listener.tokens) < 900


def test_a_full_queue_is_busy(engine: Engine) -> None:
    listeners = [Listener() for _ in range(8)]
    for number, listener in enumerate(listeners):
        engine.submit(request(f"q{number}", max_tokens=600), listener)
    with pytest.raises(Busy):
        engine.submit(request("one too many"), Listener())
    for number in range(8):
        engine.abort(f"q{number}")
    for listener in listeners:
        assert listener.finished.reason == "abort"


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (request(prompt=()), None),
        (request(prompt=(1, 10**9)), None),
        (request(prompt=(1, -1)), None),
        (request(prompt=(5,) * 1024), "context_length_exceeded"),
        (request(max_tokens=1020), "context_length_exceeded"),
        (request(stop_token_ids=(10**9,)), None),
    ],
)
def test_bad_requests_are_invalid(engine: Engine, bad: Request, code: str | None) -> None:
    with pytest.raises(Invalid) as caught:
        engine.submit(bad, Listener())
    assert caught.value.code == code


def test_an_open_id_cannot_be_taken_twice(engine: Engine) -> None:
    listener = Listener()
    engine.submit(request(max_tokens=900), listener)
    with pytest.raises(Conflict):
        engine.submit(request(), Listener())
    engine.abort("r")
    assert listener.finished.reason == "abort"


def test_stats_count_distinct_adapters(engine: Engine, zoo: Zoo) -> None:
    engine.run([request(f"d{n}", adapter=zoo.adapter(i)) for n, i in enumerate((None, 0, 1, 1))])
    assert engine.stats().peak_distinct_adapters == 2
    engine.reset_peak()
    assert engine.stats().peak_distinct_adapters == 0
    assert engine.stats().tokens_generated == 32
    assert engine.stats().prompt_tokens == 80


def test_closing_aborts_what_is_open(tiny_base: Base) -> None:
    engine = Engine(tiny_base, kv_tokens=2048)
    engine.start()
    listener = Listener()
    engine.submit(request(max_tokens=900), listener)
    engine.close()
    assert listener.finished.reason == "abort"
    with pytest.raises(Unavailable):
        engine.submit(request(), Listener())


def test_progress_is_told(engine: Engine) -> None:
    told: list[tuple[int, int]] = []
    engine.run(
        [request(f"p{i}", max_tokens=2) for i in range(20)], progress=lambda done, total: told.append((done, total))
    )
    assert sorted(told) == [(done, 20) for done in range(1, 21)]


def test_stop_strings_wait_for_min_tokens(engine: Engine) -> None:
    (free,) = engine.run([request(max_tokens=40)])
    stop = next(text for text in free.text if text.isascii() and text.isprintable())
    first = next(n for n in range(41) if stop in engine.base.tokenizer.decode(free.tokens[:n]))
    (held,) = engine.run([request(max_tokens=40, stop=(stop,), min_tokens=first + 1)])
    assert len(held.tokens) > first
    assert stop in held.text or held.reason == "length"
    (met,) = engine.run([request(max_tokens=40, stop=(stop,), min_tokens=first)])
    assert (met.reason, len(met.tokens)) == ("stop", first)


def test_prompt_alternatives_come_with_the_scores(engine: Engine) -> None:
    (scored,) = engine.run([replace(request(max_tokens=0), score_from=0, prompt_logprobs=3)])
    assert scored.prompt_logprobs is not None
    assert scored.prompt_top is not None
    assert len(scored.prompt_logprobs) == len(scored.prompt_top) == len(PROMPT) - 1
    for token, logprob, top in zip(PROMPT[1:], scored.prompt_logprobs, scored.prompt_top, strict=True):
        assert [value for _, value in top] == sorted((value for _, value in top), reverse=True)
        assert dict(top).get(token, logprob) == pytest.approx(logprob)
        assert logprob <= top[0][1] + 1e-6


def test_virtual_tokens_count_for_the_context_and_for_nothing_else(tiny_base: Base, zoo: Zoo) -> None:
    generator = torch.Generator().manual_seed(3)
    virtual = torch.randn(7, tiny_base.config.hidden_size, generator=generator)
    soft = replace(zoo.adapters[0], digest="soft", virtual=virtual)
    engine = Engine(tiny_base, kv_tokens=1024, max_context=64)
    penalised = request("p", adapter=soft, max_tokens=6, repetition_penalty=1.3)
    (completion,) = engine.run([replace(penalised, want_features=True, score_from=0, prompt_logprobs=1)])
    assert completion.error is None
    assert completion.usage.prompt_tokens == len(PROMPT)
    assert completion.usage.completion_tokens == len(completion.tokens) == 6
    assert completion.features is not None
    assert completion.features.num_prompt_tokens == len(PROMPT)
    assert completion.prompt_logprobs is not None
    assert len(completion.prompt_logprobs) == len(PROMPT) - 1
    with pytest.raises(Invalid) as caught:
        engine.submit(request(adapter=soft, max_tokens=64 - len(PROMPT) - 6), Listener())
    assert "7 virtual tokens" in caught.value.message
    engine.close()


def test_an_engine_that_cannot_trust_its_state_stops(tiny_base: Base) -> None:
    engine = Engine(tiny_base, kv_tokens=1024)
    engine.run([request()])
    wait_until(lambda: engine.stats().running == 0)
    engine._scheduler.regions.used += 1
    listener = Listener()
    engine.submit(request("last"), listener)
    assert listener.finished.reason in ("length", "abort")
    wait_until(lambda: not engine.is_running)
    with pytest.raises(Unavailable):
        engine.submit(request("late"), Listener())
    engine.close()


def test_an_engine_that_stopped_holds_up_no_loader(tiny_base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that it could not take out in order run no more: whoever waits for their steps would wait for ever."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("broken")

    engine = Engine(tiny_base, kv_tokens=1024, between_steps=fail)
    monkeypatch.setattr(engine._scheduler, "remove", fail)
    engine.submit(request(), Listener())
    engine.start()
    wait_until(lambda: not engine.is_running)
    assert engine._scheduler.has_work
    assert not engine.is_busy
    engine.close()
