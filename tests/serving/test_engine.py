from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from registry.errors import Busy, Conflict, Corrupt, Invalid, Unavailable
from serving.base import Base
from serving.engine import Engine
from serving.request import Event, Finished, Request, Sampling, Token

from .conftest import Zoo

PROMPT = tuple(range(10, 30))
WAIT_S = 20


class Listener:
    """Keeps a request's events; `on(event)` may be told to do something at the first token."""

    def __init__(self, at_first_token: Any = None) -> None:
        self.events: list[Event] = []
        self.over = threading.Event()
        self._at_first_token = at_first_token

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Finished):
            self.over.set()
        elif len(self.events) == 1 and self._at_first_token:
            self._at_first_token()

    @property
    def finished(self) -> Finished:
        assert self.over.wait(WAIT_S), "the request never finished"
        last = self.events[-1]
        assert isinstance(last, Finished)
        return last

    @property
    def tokens(self) -> list[Token]:
        return [event for event in self.events if isinstance(event, Token)]


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


def wait_until(condition: Any) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


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


def poisoned(zoo: Zoo, name: str) -> Any:
    """An adapter whose numbers blow up for whoever uses it."""
    adapter = zoo.adapters[0]
    deltas = {
        site: replace(delta, parts=tuple(replace(part, b=torch.full_like(part.b, 3e38)) for part in delta.parts))
        for site, delta in adapter.deltas.items()
    }
    return replace(adapter, digest=name, name=name, deltas=deltas)


def broken(zoo: Zoo, name: str) -> Any:
    """An adapter of the wrong shape, as if validation had let one slip."""
    adapter = zoo.adapters[0]
    deltas = {site: replace(delta, a=delta.a[:-1]) for site, delta in adapter.deltas.items()}
    return replace(adapter, digest=name, name=name, deltas=deltas)


@pytest.mark.parametrize(("spoil", "error"), [(poisoned, Corrupt), (broken, Unavailable)])
@pytest.mark.parametrize("length", [1, 20])
def test_a_failing_adapter_fails_alone(engine: Engine, zoo: Zoo, spoil: Any, error: type, length: int) -> None:
    good = [request(f"g{i}", PROMPT[:length], zoo.adapter(i), max_tokens=20) for i in (None, 1, 2)]
    expected = engine.run(good)
    bad = request("bad", PROMPT[:length], spoil(zoo, "bad adapter"), max_tokens=20)
    mixed = engine.run([good[0], bad, *good[1:]])
    assert isinstance(mixed[1].error, error)
    assert "bad adapter" in mixed[1].error.message
    assert [mixed[place].tokens for place in (0, 2, 3)] == [completion.tokens for completion in expected]
    again = engine.run(good)
    assert [completion.tokens for completion in again] == [completion.tokens for completion in expected]
    assert engine.stats().failed_rows == 1


def test_a_failing_listener_fails_alone(engine: Engine) -> None:
    def explode() -> None:
        raise RuntimeError("the client went away")

    bad, good = Listener(at_first_token=explode), Listener()
    engine.submit(request("bad"), bad)
    engine.submit(request("good"), good)
    assert good.finished.reason == "length"
    assert bad.finished.reason == "error"


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
