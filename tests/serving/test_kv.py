from __future__ import annotations

import pytest
import torch

from serving.kv import KVCache
from serving.regions import Region
from serving.scheduler import Move

HEADS, WIDTH = 3, 4


@pytest.fixture
def cache() -> KVCache:
    return KVCache(
        num_layers=2, kv_heads=HEADS, head_dim=WIDTH, total=512, dtype=torch.float32, device=torch.device("cpu")
    )


def fill(cache: KVCache, region: Region, length: int, seed: int) -> torch.Tensor:
    """Write `length` positions of every head, as a step would. Returns them: (heads, length, width)."""
    values = torch.randn(HEADS, length, WIDTH, generator=torch.Generator().manual_seed(seed))
    heads = torch.arange(HEADS)[:, None]
    index = region.start * HEADS + heads * region.capacity + torch.arange(length)
    for layer in range(2):
        cache.write(layer, index.reshape(-1), values + layer, values - layer)
    return values


def test_what_is_written_is_read(cache: KVCache) -> None:
    values = fill(cache, Region(128, 64), 50, seed=1)
    keys, stored = cache.neighbours(1, Region(128, 64), 1, 50)
    torch.testing.assert_close(keys, values + 1)
    torch.testing.assert_close(stored, values - 1)


def test_neighbours_are_one_dense_tensor(cache: KVCache) -> None:
    first, second = fill(cache, Region(128, 64), 64, seed=1), fill(cache, Region(192, 64), 64, seed=2)
    keys, _ = cache.neighbours(0, Region(128, 64), 2, 64)
    assert keys.is_contiguous()
    torch.testing.assert_close(keys, torch.cat([first, second]))


def test_a_move_takes_every_layer_along(cache: KVCache) -> None:
    values = fill(cache, Region(64, 64), 64, seed=3)
    cache.move([Move(Region(64, 64), Region(256, 128), 64)])
    for layer in range(2):
        keys, stored = cache.neighbours(layer, Region(256, 128), 1, 64)
        torch.testing.assert_close(keys, values + layer)
        torch.testing.assert_close(stored, values - layer)


def test_scrubbing_clears_one_region_only(cache: KVCache) -> None:
    fill(cache, Region(0, 64), 64, seed=1)
    kept = fill(cache, Region(64, 64), 64, seed=2)
    cache.keys[0][:8] = float("nan")
    cache.scrub(Region(0, 64))
    assert not cache.neighbours(0, Region(0, 64), 1, 64)[0].any()
    torch.testing.assert_close(cache.neighbours(0, Region(64, 64), 1, 64)[0], kept)
