"""An abort or a deadline frees a row within one step, in every state a row can be in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from serving.base import Base
from serving.engine import Engine
from serving.request import Request, Sampling

from .listener import Listener

LONG = tuple(range(3, 203))


class Driven:
    """An engine without its thread: the test makes each step, and tells the time."""

    def __init__(self, base: Base, **sizes: int) -> None:
        self.now = 0.0
        self.engine = Engine(base, clock=lambda: self.now, **sizes)
        self.listeners: dict[str, Listener] = {}

    def submit(self, name: str, prompt: tuple[int, ...], answer: int, tenant: str = "default") -> None:
        sampling = Sampling(max_tokens=answer, temperature=0, ignore_eos=True)
        request = Request(name, prompt, sampling, tenant=tenant)
        self.listeners[name] = Listener()
        deadline = 100.0 if name == "victim" else None
        self.engine.submit(replace(request, deadline=deadline), self.listeners[name])

    def step(self, times: int = 1) -> None:
        with torch.inference_mode():
            for _ in range(times):
                self.engine._collect()
                self.engine._step_or_fail()

    def is_waiting(self, name: str) -> bool:
        return any(getattr(row, "request").id == name for row in self.engine._scheduler.queue)  # noqa: B009

    def computed(self, name: str) -> int | None:
        rows = self.engine._scheduler.running
        return next((row.num_computed for row in rows if getattr(row, "request").id == name), None)  # noqa: B009


def waiting(base: Base) -> Driven:
    driven = Driven(base, max_batch=2, kv_tokens=2048, prefill_tokens=64)
    for number in range(2):
        driven.submit(f"other{number}", LONG[:10], 300)
    driven.submit("victim", LONG[:20], 5)
    driven.step(3)
    assert driven.is_waiting("victim")
    return driven


def waiting_for_a_mate(base: Base) -> Driven:
    driven = Driven(base, max_batch=4, kv_tokens=2048, prefill_tokens=40)
    driven.submit("other0", LONG, 300)
    driven.submit("victim", LONG, 5)
    driven.step(2)
    assert driven.computed("other0") == 80
    assert driven.is_waiting("victim"), "there is a seat, but a mate computes the same prompt"
    return driven


def prefilling(base: Base) -> Driven:
    driven = Driven(base, max_batch=2, kv_tokens=2048, prefill_tokens=40)
    driven.submit("other0", LONG[:10], 300)
    driven.submit("victim", LONG, 5)
    driven.step(3)
    assert 0 < (driven.computed("victim") or 0) < len(LONG)
    return driven


def decoding(base: Base) -> Driven:
    driven = Driven(base, max_batch=2, kv_tokens=2048, prefill_tokens=64)
    driven.submit("other0", LONG[:10], 300)
    driven.submit("victim", LONG[:10], 300)
    driven.step(10)
    assert driven.listeners["victim"].tokens
    return driven


def preempted(base: Base) -> Driven:
    driven = Driven(base, max_batch=2, kv_tokens=512, prefill_tokens=64)
    driven.submit("other0", LONG[:10], 450)
    driven.submit("victim", LONG[:10], 450)
    for _ in range(300):
        driven.step()
        if driven.is_waiting("victim"):
            break
    assert driven.is_waiting("victim")
    assert driven.listeners["victim"].tokens
    return driven


STATES = [waiting, waiting_for_a_mate, prefilling, decoding, preempted]


@pytest.mark.parametrize("bring_to", STATES)
@pytest.mark.parametrize("reason", ["abort", "deadline"])
def test_a_row_is_freed_within_a_step(tiny_base: Base, bring_to: Callable[[Base], Driven], reason: str) -> None:
    driven = bring_to(tiny_base)
    engine, victim = driven.engine, driven.listeners["victim"]
    tokens = len(victim.tokens)
    if reason == "abort":
        engine.abort("victim")
    else:
        driven.now = 100.0
    driven.step()
    assert victim.finished.reason == reason
    assert len(victim.tokens) == tokens, "no further token"
    assert not driven.is_waiting("victim")
    assert driven.computed("victim") is None
    engine.check_integrity()
    assert driven.computed("other0") is not None, "the others go on"
    for name in list(driven.listeners):
        engine.abort(name)
    driven.step()
    assert engine.stats().kv_used == engine.stats().running == engine.stats().waiting == 0
    engine.check_integrity()
    engine.close()


def test_a_row_that_came_too_late_computes_nothing(tiny_base: Base) -> None:
    driven = Driven(tiny_base, max_batch=2, kv_tokens=2048, prefill_tokens=64)
    driven.now = 200.0
    driven.submit("victim", LONG, 5)
    driven.step()
    assert driven.listeners["victim"].finished.reason == "deadline"
    assert driven.engine.stats().steps == 0
    driven.engine.close()
