"""How fast this engine is on this machine: decode and prefill with few and many adapters. Knows no peer.

Adapters are random (their numbers do not change the work). Decode is timed from the step in which every row has its
first token to the last token; prefill from submission to the last row's first token. Every round has prompts of its
own, so that no cached prefix can help.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from serving.adapter import Delta, LoadedAdapter, Part
from serving.base import Base
from serving.collect import Collector
from serving.engine import Engine
from serving.request import Event, OnEvent, Request, Sampling, Token

PROMPT = 16
ANSWER = 64
LONG_PROMPT = 256


@dataclass(frozen=True)
class Case:
    name: str
    rows: int
    adapters: int
    prompt: int = PROMPT
    answer: int = ANSWER

    def prompts(self, round_: int, vocab_size: int) -> list[list[int]]:
        """Token ids of every row; the same for whoever asks."""
        draw = random.Random(f"{self.name}/{round_}")
        lowest = min(100, vocab_size // 2)  # special tokens come first
        return [[draw.randrange(lowest, vocab_size) for _ in range(self.prompt)] for _ in range(self.rows)]


CASES = (
    Case("decode, 16 rows, no adapter", 16, 0),
    Case("decode, 16 rows, 1 adapter", 16, 1),
    Case("decode, 16 rows, 4 adapters", 16, 4),
    Case("decode, 16 rows, 16 adapters", 16, 16),
    Case("decode, 1 row, no adapter", 1, 0),
    Case("decode, 1 row, 1 adapter", 1, 1),
    Case("prefill, 16 x 256, no adapter", 16, 0, LONG_PROMPT, 1),
    Case("prefill, 16 x 256, 16 adapters", 16, 16, LONG_PROMPT, 1),
)


@dataclass(frozen=True)
class Result:
    """Tokens per second: the median of the rounds, and the slowest and fastest."""

    case: str
    tokens_per_s: float
    slowest: float
    fastest: float


def measure(engine: Engine, cases: Sequence[Case] = CASES, *, rank: int = 16, rounds: int = 3) -> list[Result]:
    """Run every case `rounds` times after a warm-up round."""
    most = max(case.adapters for case in cases)
    adapters = [random_adapter(engine.base, rank, seed) for seed in range(most)]
    vocab_size = engine.base.profile.vocab_size
    results = []
    for case in cases:
        rate(engine, replace(case, answer=min(case.answer, 4)), case.prompts(0, vocab_size), adapters)
        rates = [rate(engine, case, case.prompts(number, vocab_size), adapters) for number in range(1, rounds + 1)]
        results.append(Result(case.name, statistics.median(rates), min(rates), max(rates)))
    return results


def rate(engine: Engine, case: Case, prompts: Sequence[Sequence[int]], adapters: Sequence[LoadedAdapter]) -> float:
    """One round of a case, in tokens per second."""
    engine.start()
    requests = [
        Request(
            id=f"bench-{row}",
            prompt=tuple(prompt),
            sampling=Sampling(max_tokens=case.answer, temperature=0, ignore_eos=True),
            adapter=adapters[row % case.adapters] if case.adapters else None,
        )
        for row, prompt in enumerate(prompts)
    ]
    watch = _Watch()
    started = time.perf_counter()
    completions = Collector(requests, None).run(lambda request, on_event: engine.submit(request, watch.on(on_event)))
    assert all(completion.reason == "length" for completion in completions), "a benchmark row did not run to its end"
    if case.answer == 1:
        return sum(map(len, prompts)) / (watch.last - started)
    return case.rows * (case.answer - 1) / (watch.last - watch.last_first)


def random_adapter(base: Base, rank: int, seed: int, std: float = 0.02) -> LoadedAdapter:
    """An adapter on every linear, in memory only."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return (torch.randn(shape, generator=generator) * std).to(base.dtype).to(base.device)

    deltas = {}
    for site in base.sites:
        spans = [(sibling, rank * sibling, out) for sibling, out in enumerate(site.out_features)]
        parts = tuple(Part(sibling, start, start + rank, draw(rank, out)) for sibling, start, out in spans)
        deltas[site.index] = Delta(draw(site.in_features, rank * len(spans)), parts)
    size = sum(delta.num_bytes for delta in deltas.values())
    return LoadedAdapter(f"random:{rank}:{seed}", f"random-{seed}", deltas, size)


class _Watch:
    """Notes when the last row's first token and the very last token came."""

    def __init__(self) -> None:
        self.last_first = self.last = 0.0

    def on(self, on_event: OnEvent) -> OnEvent:
        seen = False

        def note(event: Event) -> None:
            nonlocal seen
            if isinstance(event, Token):
                self.last = time.perf_counter()
                if not seen:
                    seen, self.last_first = True, self.last
            on_event(event)

        return note
