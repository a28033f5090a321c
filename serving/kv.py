"""The tensors behind the regions: every layer's keys and values of every row. Knows no request.

    one layer   (total * kv_heads, head_dim), a region inside it (kv_heads, capacity, head_dim):

    | region a: head 0 | head 1 | head 2 | region b: head 0 | head 1 | head 2 | ...
      each head: `capacity` positions

Memory starts as zeros and stays finite: attention multiplies positions beyond a row's length by zero, and zero times
NaN would be NaN. A row that fails is scrubbed. No key exceeds LARGEST_KEY, so that no score of such a position
overflows: infinity less infinity would be NaN too, for whoever has the region next.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from serving.regions import Region
from serving.scheduler import Move
from serving.slab import slab

LARGEST_KEY = 1e18
"""As in kernel/past.h; far beyond the keys of any sound model."""


class KVCache:
    def __init__(
        self, *, num_layers: int, kv_heads: int, head_dim: int, total: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.total = total
        self.kv_heads = kv_heads
        self.head_dim = head_dim
        shape = (total * kv_heads, head_dim)
        self.keys = [_zeros(shape, dtype, device) for _ in range(num_layers)]
        self.values = [_zeros(shape, dtype, device) for _ in range(num_layers)]

    def write(self, layer: int, index: Tensor, key: Tensor, value: Tensor) -> None:
        """Store the step's tokens. key, value: (kv_heads, tokens, head_dim); index: (kv_heads * tokens,)."""
        self.keys[layer].index_copy_(0, index, key.reshape(-1, self.head_dim).clamp(-LARGEST_KEY, LARGEST_KEY))
        self.values[layer].index_copy_(0, index, value.reshape(-1, self.head_dim))

    def neighbours(self, layer: int, first: Region, count: int, length: int) -> tuple[Tensor, Tensor]:
        """Keys and values of `count` adjacent equal regions, as views: (count * kv_heads, length, head_dim)."""
        shape = (count * self.kv_heads, length, self.head_dim)
        strides = (first.capacity * self.head_dim, self.head_dim, 1)
        offset = first.start * self.kv_heads * self.head_dim
        return (
            self.keys[layer].as_strided(shape, strides, offset),
            self.values[layer].as_strided(shape, strides, offset),
        )

    def move(self, moves: Sequence[Move]) -> None:
        for move in moves:
            for layer in range(len(self.keys)):
                old = self.neighbours(layer, move.source, 1, move.length)
                new = self.neighbours(layer, move.target, 1, move.length)
                new[0].copy_(old[0])
                new[1].copy_(old[1])

    def scrub(self, region: Region) -> None:
        """Make a failed row's region finite again."""
        for layer in range(len(self.keys)):
            for tensor in self.neighbours(layer, region, 1, region.capacity):
                tensor.zero_()


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros; in host memory in large pages, which cost nothing until a row touches them.

    Attention walks through many regions at every step: with small pages a step takes 4 % longer.
    """
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    count = math.prod(shape)
    return slab(count * dtype.itemsize).view(dtype)[:count].view(shape)
