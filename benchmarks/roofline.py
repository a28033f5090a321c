"""How fast a case could be: the bytes and operations that it cannot avoid, over what this machine was measured to do.

    python -m benchmarks.roofline PLAN     measures the machine: bytes per second, bf16 operations per second

Counted: every weight once per step, each adapter once per step, the keys and values of the past, and two operations
per weight and token. Not counted: activations, norms, softmax, sampling, Python. So nothing reaches the bound.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.peers.protocol import say, told
from serving.bench import Case

BYTES = 2
"""Of one bfloat16 number."""
RANK = 16
STREAM = 1 << 28
SQUARES = (1024, 2048, 4096)
REPEATS = 5


@dataclass(frozen=True)
class Shape:
    """A Llama-like base."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int

    @classmethod
    def of(cls, config: dict[str, Any]) -> Shape:
        heads = config["num_attention_heads"]
        return cls(
            layers=config["num_hidden_layers"],
            hidden=config["hidden_size"],
            intermediate=config["intermediate_size"],
            heads=heads,
            kv_heads=config["num_key_value_heads"],
            head_dim=config.get("head_dim") or config["hidden_size"] // heads,
            vocab=config["vocab_size"],
        )

    @property
    def linears(self) -> tuple[tuple[int, int], ...]:
        """(in, out) of the linears of one layer."""
        query, key = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = ((self.hidden, query), (self.hidden, key), (self.hidden, key), (query, self.hidden))
        wide = ((self.hidden, self.intermediate), (self.hidden, self.intermediate), (self.intermediate, self.hidden))
        return attention + wide

    @property
    def body(self) -> int:
        """Weights of all layers."""
        return self.layers * sum(inputs * outputs for inputs, outputs in self.linears)

    @property
    def head(self) -> int:
        return self.hidden * self.vocab

    @property
    def adapter(self) -> int:
        """Weights of one adapter."""
        return self.layers * sum(RANK * (inputs + outputs) for inputs, outputs in self.linears)

    @property
    def past(self) -> int:
        """Numbers kept per token: keys and values."""
        return self.layers * 2 * self.kv_heads * self.head_dim

    def attention(self, pairs: float) -> float:
        """Operations for so many (query token, key token) pairs, over all layers and heads."""
        return 4.0 * self.layers * self.heads * self.head_dim * pairs


@dataclass(frozen=True)
class Load:
    """What has to be moved and computed to make `tokens` tokens."""

    tokens: int
    bytes: float
    operations: float

    def seconds(self, bytes_per_s: float, operations_per_s: float) -> float:
        """No less than the slower of the two, were they perfectly overlapped."""
        return max(self.bytes / bytes_per_s, self.operations / operations_per_s)

    def bound(self, limits: dict[str, float]) -> float:
        """Tokens per second at best."""
        return self.tokens / self.seconds(limits["bytes_per_s"], limits["operations_per_s"])


def load_of(case: Case, shape: Shape) -> Load:
    return _prefill(case, shape) if case.answer == 1 else _decode_step(case, shape)


def _decode_step(case: Case, shape: Shape) -> Load:
    """One token for every row, halfway through the answer."""
    length = case.prompt + case.answer / 2
    adapted = shape.adapter if case.adapters else 0
    weights = shape.body + shape.head + case.adapters * shape.adapter + case.rows * length * shape.past
    per_row = 2.0 * (shape.body + shape.head + adapted) + shape.attention(length)
    return Load(case.rows, BYTES * weights, case.rows * per_row)


def _prefill(case: Case, shape: Shape) -> Load:
    """All prompts in one pass; the head only for each row's last token."""
    tokens = case.rows * case.prompt
    adapted = shape.adapter if case.adapters else 0
    weights = shape.body + shape.head + case.adapters * shape.adapter + tokens * shape.past
    pairs = case.rows * case.prompt * (case.prompt + 1) / 2
    operations = 2.0 * (tokens * (shape.body + adapted) + case.rows * shape.head) + shape.attention(pairs)
    return Load(tokens, BYTES * weights, operations)


def measure(threads: int) -> dict[str, float]:
    """A sum over a gigabyte, and torch's product of two large bf16 matrices; the best of a few."""
    import torch

    torch.set_num_threads(threads)
    numbers = torch.ones(STREAM)

    def product(size: int) -> float:
        left, right = (torch.randn(size, size).bfloat16() for _ in range(2))
        return 2.0 * size**3 / _best(lambda: left @ right)

    return {
        "bytes_per_s": numbers.nbytes / _best(numbers.sum),
        "operations_per_s": max(product(size) for size in SQUARES),
    }


def _best(work: Callable[[], object]) -> float:
    """Seconds of the fastest run, after one to warm up."""
    work()
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


if __name__ == "__main__":
    say(measure=measure(told()["threads"]))
