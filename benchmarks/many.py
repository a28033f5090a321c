"""2,000 registered adapters under Zipf traffic against 5: `python -m benchmarks.many PLAN`.

Every request resolves its name in a directory registry and leases its adapter from the residency, as the gateway does.
Prompts and answers are 8 to 512 tokens, uniform, and the same for both populations; only the names differ. Both are
measured in short rounds, in turn, from a residency filled in the order of popularity, as hours of traffic would.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from benchmarks import fleet
from benchmarks.drive import Job, Outcome, closed_loop
from benchmarks.peers.protocol import say, told
from benchmarks.zipf import draws
from serving.adapter import LoadedAdapter
from serving.gateway.gateway import Gateway

FEW = 5
CLIENTS = 16
ROUNDS = 4
"""Even, so that each population goes first as often as the other."""


@dataclass(frozen=True)
class Traffic:
    requests: int
    shortest: int
    longest: int

    def jobs(self, adapters: int, seed: int, vocab_size: int) -> list[Job]:
        """The same lengths and tokens for every number of adapters."""
        lengths, ranks = random.Random(f"lengths {seed}"), draws(adapters, random.Random(f"ranks {seed}"))
        jobs = []
        for rank in islice(ranks, self.requests):
            prompt = tuple(
                lengths.randrange(100, vocab_size) for _ in range(lengths.randint(self.shortest, self.longest))
            )
            jobs.append(Job(fleet.name(rank), prompt, lengths.randint(self.shortest, self.longest)))
        return jobs


FULL = Traffic(requests=32, shortest=8, longest=512)
QUICK = Traffic(requests=32, shortest=8, longest=32)


class Lending:
    """Names to adapters, as a request of the gateway comes by them."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    @contextlib.contextmanager
    def lend(self, name: str) -> Iterator[LoadedAdapter]:
        digest = self._gateway.home.catalog.choose(name).digest
        assert digest is not None
        with self._gateway.residency.acquire(digest) as lease:
            yield lease.adapter

    def fill(self, count: int) -> None:
        """Make the most popular resident, until the next would not fit."""
        residency = self._gateway.residency
        for number in range(count):
            with self.lend(fleet.name(number)) as adapter:
                stats = residency.stats()
            if stats.resident_bytes + adapter.num_bytes > stats.byte_budget:
                return


def compare(gateway: Gateway, traffic: Traffic, count: int) -> dict[str, float]:
    """Tokens per second of both populations, and what the residency did."""
    lending, vocab_size = Lending(gateway), gateway.base.profile.vocab_size
    outcomes: dict[int, list[Outcome]] = {FEW: [], count: []}
    closed_loop(gateway.engine, traffic.jobs(FEW, -1, vocab_size)[:CLIENTS], CLIENTS, lending.lend)
    for seed in range(ROUNDS):
        for adapters in (FEW, count) if seed % 2 == 0 else (count, FEW):  # a machine that slows down slows both
            lending.fill(adapters)
            jobs = traffic.jobs(adapters, seed, vocab_size)
            outcomes[adapters].append(closed_loop(gateway.engine, jobs, CLIENTS, lending.lend))
            say(note=f"{adapters:,} adapters, round {seed + 1}: {outcomes[adapters][-1].rate:,.0f} tokens/s")
    few, many = (_overall(found) for found in outcomes.values())
    stats = gateway.residency.stats()
    return {
        "adapters": count,
        "few_adapters": FEW,
        "few_tokens_per_s": few,
        "many_tokens_per_s": many,
        "lost": 1 - many / few,
        "peak_bytes": stats.peak_bytes,
        "byte_budget": stats.byte_budget,
        "loads": stats.misses,
        "hits": stats.hits,
        "evictions": stats.evictions,
        "overdrafts": stats.overdrafts,
    }


def _overall(outcomes: list[Outcome]) -> float:
    return sum(outcome.tokens for outcome in outcomes) / sum(outcome.seconds for outcome in outcomes)


def main() -> None:
    plan = told()
    count = fleet.SMALL if plan["quick"] else fleet.SIZE
    adapters = [Path(path) for path in plan["adapters"]]
    with fleet.gateway(Path(plan["work"]), adapters, plan["threads"], count, lambda line: say(note=line)) as gateway:
        say(measure=compare(gateway, QUICK if plan["quick"] else FULL, count))


if __name__ == "__main__":
    main()
