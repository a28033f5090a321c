"""What random clients ask for: many tenants, shared beginnings, every way of sampling, and clients that leave."""

from __future__ import annotations

import itertools
import random
from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from serving.request import Sampling

TENANTS = 12
PREFIXES = 8
"""Shared beginnings of each tenant's prompts."""

Leaves: TypeAlias = Literal["never", "while loading", "at once", "after some tokens"]
LEAVES: tuple[Leaves, ...] = ("never", "while loading", "at once", "after some tokens")


@dataclass(frozen=True)
class Ask:
    """One request. `parts` are (digest, weight): none for the bare base, several for a mix."""

    number: int
    tenant: str
    parts: tuple[tuple[str, float], ...]
    prompt: tuple[int, ...]
    sampling: Sampling
    leaves: Leaves = "never"
    leaves_after: int = 0
    is_checked: bool = False
    """Its answer is compared with that of a quiet engine."""


class Traffic:
    """Reproducible: the same seed gives the same requests. A few adapters are hot, all are asked for."""

    def __init__(self, digests: Sequence[str], mixable: Sequence[str], vocab_size: int, seed: int) -> None:
        self._digests, self._mixable = digests, mixable
        self._vocab_size = vocab_size
        self._rng = random.Random(seed)
        weights = [1.0 / (1 + rank) ** 0.7 for rank in range(len(digests))]
        self._edges = list(itertools.accumulate(weights))
        self._prefixes = {
            (tenant, number): self._tokens(self._rng.choice([16, 32, 48]))
            for tenant in range(TENANTS)
            for number in range(PREFIXES)
        }

    def __iter__(self) -> Iterator[Ask]:
        return map(self._ask, itertools.count())

    def _ask(self, number: int) -> Ask:
        rng = self._rng
        tenant = rng.randrange(TENANTS)
        prefix = self._prefixes[tenant, rng.randrange(PREFIXES)] if rng.random() < 0.6 else ()
        leaves = rng.choices(LEAVES, weights=[85, 3, 4, 8])[0]
        max_tokens = rng.choice([1, 2, 4, 8, 16, 24])
        return Ask(
            number=number,
            tenant=f"tenant-{tenant}",
            parts=self._parts(),
            prompt=(*prefix, *self._tokens(rng.randint(1, 24))),
            sampling=self._sampling(max_tokens),
            leaves=leaves,
            leaves_after=rng.randint(1, max_tokens),
            is_checked=leaves == "never" and rng.random() < 0.02,
        )

    def _parts(self) -> tuple[tuple[str, float], ...]:
        kind = self._rng.random()
        if kind < 0.07:
            return ()
        if kind < 0.10:
            chosen = self._rng.sample(self._mixable, self._rng.randint(2, 3))
            return tuple((digest, self._rng.choice([0.25, 0.5, 0.7])) for digest in chosen)
        place = bisect(self._edges, self._rng.random() * self._edges[-1])
        return ((self._digests[min(place, len(self._digests) - 1)], 1.0),)

    def _sampling(self, max_tokens: int) -> Sampling:
        rng = self._rng
        if rng.random() < 0.3:
            return Sampling(max_tokens=max_tokens, temperature=0.0, min_tokens=rng.randint(0, max_tokens))
        return Sampling(
            max_tokens=max_tokens,
            temperature=rng.choice([0.5, 0.8, 1.2]),
            top_p=rng.choice([1.0, 0.9]),
            top_k=rng.choice([0, 0, 40]),
            min_p=rng.choice([0.0, 0.05]),
            seed=rng.getrandbits(32),
            stop=(rng.choice(["e", "th", "\n"]),) if rng.random() < 0.2 else (),
            presence_penalty=rng.choice([0.0, 0.0, 0.5]),
            repetition_penalty=rng.choice([1.0, 1.0, 1.2]),
            logit_bias=((rng.randrange(self._vocab_size), rng.uniform(-5, 5)),) if rng.random() < 0.1 else (),
            logprobs=rng.choice([None, None, 0, 3]),
        )

    def _tokens(self, count: int) -> tuple[int, ...]:
        return tuple(self._rng.randrange(3, self._vocab_size) for _ in range(count))
