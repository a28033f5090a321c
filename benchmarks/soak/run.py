"""One soak, from publishing the adapters to the verdict. Prints nothing; tells its progress to a listener."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.soak.clients import Answered, Clients, settle
from benchmarks.soak.memory import Memory
from benchmarks.soak.stock import Stock, stock_up
from benchmarks.soak.traffic import Traffic
from registry.settings import Settings
from serving.adapter_file import AdapterFile
from serving.base import Base
from serving.engine import Engine
from serving.footprint import footprint
from serving.lease import Lease
from serving.mix import mix
from serving.request import Request
from serving.residency import Residency

ROUND = 500
"""Requests between two moments of rest, in which everything is checked."""
MAX_GROWTH = 0.05
MIXABLE = ("lora", "rslora", "dora")

OnProgress = Callable[[str, int, int], None]
"""What is being done, how far, of how many."""


@dataclass(frozen=True)
class Plan:
    requests: int
    seconds: float | None = None
    """Stop after this time, if sooner."""
    adapters: int = 200
    budget_share: float = 0.25
    """Share of all adapters' bytes that may be in memory."""
    in_flight: int = 32
    seed: int = 1


def soak(base: Base, settings: Settings, root: Path, plan: Plan, on_progress: OnProgress) -> dict[str, Any]:
    """The report, as JSON; `faults` is empty if all is well."""
    published = 0

    def on_published() -> None:
        nonlocal published
        published += 1
        on_progress("publish", published, plan.adapters)

    stock = stock_up(base, root, plan.adapters, plan.seed, on_published)
    sizes = [_footprint(stock, version.digest, base) for version in stock.versions]
    budget = max(int(plan.budget_share * sum(sizes)), 8 * max(sizes))  # a mix of three needs its parts and itself
    engine, residency = Engine.from_settings(base, settings), Residency(stock.fetch, base, budget)
    engine.start()
    try:
        return _Soak(engine, residency, stock, plan, on_progress).run() | {
            "adapters": plan.adapters,
            "adapter_bytes": sum(sizes),
            "kinds": {kind: list(stock.kinds).count(kind) for kind in sorted(set(stock.kinds))},
        }
    finally:
        engine.close()
        residency.close()


def _footprint(stock: Stock, digest: str, base: Base) -> int:
    return footprint(AdapterFile(stock.fetch(digest), base.profile), base)


class _Soak:
    def __init__(self, engine: Engine, residency: Residency, stock: Stock, plan: Plan, on_progress: OnProgress) -> None:
        digests = [version.digest for version in stock.versions]
        mixable = [digest for digest, kind in zip(digests, stock.kinds, strict=True) if kind in MIXABLE]
        traffic = Traffic(digests, mixable, engine.base.profile.vocab_size, plan.seed)
        self._engine, self._residency, self._plan, self._on_progress = engine, residency, plan, on_progress
        self._clients = Clients(engine, residency, iter(traffic), plan.in_flight)
        self._memory = Memory()
        self._checks = 0

    def run(self) -> dict[str, Any]:
        started = time.monotonic()
        clients, plan = self._clients, self._plan
        while clients.num_ended < plan.requests and not clients.faults:
            clients.run(min(ROUND, plan.requests - clients.num_ended))
            self._rest()
            elapsed = time.monotonic() - started
            if plan.seconds is None:
                self._on_progress("soak, requests", clients.num_ended, plan.requests)
            else:
                self._on_progress("soak, seconds", int(elapsed), int(plan.seconds))
                if elapsed >= plan.seconds:
                    break
        elapsed = time.monotonic() - started
        differing = self._compare(clients.checked)
        self._engine.base.check_integrity()
        growth = self._memory.growth()
        if growth > MAX_GROWTH:
            clients.faults.append(f"memory grew by {growth:.1%} after the warm-up")
        return self._report(elapsed, differing)

    def _rest(self) -> None:
        """No request is open: nothing may be running, leased or unaccounted for."""
        if not settle(self._engine):
            self._clients.faults.append(f"the engine does not come to rest: {self._engine.stats()}")
            return
        try:
            self._engine.check_integrity()
            self._residency.check_integrity()
            assert self._residency.stats().leased == 0, "an adapter is leased though no request is open"
        except AssertionError as error:
            self._clients.faults.append(f"after {self._clients.num_ended} requests: {error}")
        self._checks += 1
        self._memory.sample(self._clients.num_ended)

    def _compare(self, answers: Sequence[Answered]) -> int:
        """Ask again, one at a time; how many answers differ. In float32 none may."""
        differing = 0
        for number, answered in enumerate(answers):
            self._on_progress("compare", number + 1, len(answers))
            differing += self._alone(answered) != answered.tokens
        if differing and self._engine.base.dtype.itemsize == 4:
            self._clients.faults.append(f"{differing} of {len(answers)} answers differ from those of a quiet engine")
        return differing

    def _alone(self, answered: Answered) -> tuple[int, ...]:
        ask = answered.ask
        leases: list[Lease] = [self._residency.acquire(digest) for digest, _ in ask.parts]
        try:
            parts = [(lease.adapter, weight) for lease, (_, weight) in zip(leases, ask.parts, strict=True)]
            adapter = mix(self._engine.base, parts) if len(parts) > 1 else parts[0][0] if parts else None
            request = Request(f"quiet-{ask.number}", ask.prompt, ask.sampling, adapter=adapter, tenant="quiet")
            return self._engine.run([request])[0].tokens
        finally:
            for lease in leases:
                lease.release()

    def _report(self, elapsed_s: float, differing: int) -> dict[str, Any]:
        clients, engine, residency = self._clients, self._engine.stats(), self._residency.stats()
        first, last = (self._memory.warm or [(0, 0)])[0], (self._memory.warm or [(0, 0)])[-1]
        return {
            "requests": clients.num_ended,
            "ended": dict(clients.ended),
            "seconds": round(elapsed_s, 1),
            "requests_per_s": round(clients.num_ended / elapsed_s, 1),
            "tokens": clients.num_tokens,
            "integrity_checks": self._checks,
            "answers_compared": len(clients.checked),
            "answers_differing": differing,
            "preemptions": engine.preemptions,
            "most_adapters_in_a_step": engine.peak_distinct_adapters,
            "byte_budget": residency.byte_budget,
            "peak_bytes": residency.peak_bytes,
            "hits": residency.hits,
            "misses": residency.misses,
            "evictions": residency.evictions,
            "overdrafts": residency.overdrafts,
            "load_ms_mean": round(1000 * residency.load_seconds / max(residency.misses, 1), 2),
            "memory_warm_mb": round(first[1] / 1e6, 1),
            "memory_end_mb": round(last[1] / 1e6, 1),
            "memory_kb_per_1000_requests": round(self._memory.slope(), 1),
            "memory_growth": round(self._memory.growth(), 4),
            "memory_samples_mb": self._memory.drawn(),
            "faults": clients.faults[:50],
        }
