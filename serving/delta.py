"""What an adapter changes, in the layout the batch wants. Values only: knows no file format, no batch and no registry.

For each site (linears sharing an input) an adapter keeps one A for all siblings and one B for each:

    a   (in_features, r_q + r_k + r_v)       one product gives every sibling's bottleneck
    b   q: (r_q, out_q)   k: (r_k, out_k)    every scale is folded in
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Part:
    """One sibling's share of a delta: columns `start:stop` of `a`, and `b` (rank, out_features), scale folded in."""

    sibling: int
    start: int
    stop: int
    b: Tensor

    @property
    def rank(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, eq=False)
class Delta:
    """What one adapter does at one site. For one token's input x:

        y = gain * (W (input_gain * x)) + base bias + (x a) b + bias

    Every kind of adapter has this form. W is `replacement` where there is one; an absent gain is one, an absent bias
    zero. Gains and biases are float32, of all siblings side by side.
    """

    a: Tensor
    """(in_features, sum of ranks)"""
    parts: tuple[Part, ...]
    gain: Tensor | None = None
    """(sum of out_features,)"""
    bias: Tensor | None = None
    """(sum of out_features,)"""
    input_gain: Tensor | None = None
    """(in_features,)"""
    replacement: Tensor | None = None
    """(sum of out_features, in_features)"""

    @property
    def num_bytes(self) -> int:
        tensors = (self.a, *(part.b for part in self.parts), self.gain, self.bias, self.input_gain, self.replacement)
        return _num_bytes(tensors)


@dataclass(frozen=True, eq=False)
class EmbeddingDelta:
    """What one adapter does to the input embedding. For token t, whose base embedding is e:

        gain * e + a[t] b + (row of t among `tokens`, if it is one of them)

    with e from `replacement` where there is one.
    """

    a: Tensor | None = None
    """(vocabulary, rank)"""
    b: Tensor | None = None
    """(rank, hidden_size), scale and the module's own embedding scale folded in"""
    gain: Tensor | None = None
    """(hidden_size,) float32"""
    replacement: Tensor | None = None
    """(vocabulary, hidden_size), embedding scale folded in"""
    tokens: Tensor | None = None
    """(n,) rising token ids"""
    rows: Tensor | None = None
    """(n, hidden_size) float32, what is added to those tokens' embeddings"""

    @property
    def num_bytes(self) -> int:
        return _num_bytes((self.a, self.b, self.gain, self.replacement, self.tokens, self.rows))


def _num_bytes(tensors: Iterable[Tensor | None]) -> int:
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)
