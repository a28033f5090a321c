from __future__ import annotations

import itertools
import random
from collections import OrderedDict

import pytest

from serving.eviction import HALVE_EVERY, GreedyDual


def sizes(key: str) -> int:
    """2 to 40 MB, fixed for each key."""
    return 1_000_000 * random.Random(key).choice([2, 5, 10, 10, 20, 40])


def reload_s(key: str) -> float:
    return 0.005 + 0.003 * sizes(key) / 1e6


def zipf_trace(requests: int, adapters: int, seed: int, shuffle_at: int = 0) -> list[str]:
    """Adapter k is asked for in proportion to 1/k; `shuffle_at` gives them new ranks at that request."""
    rng = random.Random(seed)
    ranked = [f"adapter-{number}" for number in range(adapters)]
    weights = list(itertools.accumulate(1 / (rank + 1) for rank in range(adapters)))
    trace = []
    for place in range(requests):
        if place == shuffle_at:
            rng.shuffle(ranked)
        trace.append(rng.choices(ranked, cum_weights=weights)[0])
    return trace


def greedy_dual_hits(trace: list[str], budget: int) -> int:
    worth, held, used, hits = GreedyDual(), set[str](), 0, 0
    for key in trace:
        worth.use(key)
        hits += key in held
        if key not in held:
            while used + sizes(key) > budget:
                victim = worth.cheapest(held)
                assert victim is not None
                held.remove(victim)
                worth.evict(victim)
                used -= sizes(victim)
            held.add(key)
            used += sizes(key)
        worth.weigh(key, sizes(key), reload_s(key))
    return hits


def lru_hits(trace: list[str], budget: int) -> int:
    held, used, hits = OrderedDict[str, None](), 0, 0
    for key in trace:
        hits += key in held
        if key not in held:
            while used + sizes(key) > budget:
                victim, _ = held.popitem(last=False)
                used -= sizes(victim)
            held[key] = None
            used += sizes(key)
        held.move_to_end(key)
    return hits


@pytest.mark.parametrize("shuffle_at", [0, 10_000], ids=["steady", "popularity changes midway"])
@pytest.mark.parametrize("budget_mb", [200, 800])
def test_more_hits_than_lru_on_zipf_traffic(shuffle_at: int, budget_mb: int) -> None:
    trace = zipf_trace(20_000, 500, seed=3, shuffle_at=shuffle_at)
    ours = greedy_dual_hits(trace, budget_mb * 1_000_000) / len(trace)
    lru = lru_hits(trace, budget_mb * 1_000_000) / len(trace)
    assert ours > lru + 0.05, (ours, lru)


def test_frequent_small_and_dear_things_stay() -> None:
    worth = GreedyDual()
    for key, uses, num_bytes, cost_s in [
        ("rare", 1, 10, 1.0),
        ("frequent", 5, 10, 1.0),
        ("large", 1, 100, 1.0),
        ("dear", 1, 10, 9.0),
    ]:
        for _ in range(uses):
            worth.use(key)
        worth.weigh(key, num_bytes, cost_s)
    order = []
    left = {"rare", "frequent", "large", "dear"}
    while (victim := worth.cheapest(left)) is not None:
        left.remove(victim)
        worth.evict(victim)
        order.append(victim)
    assert order == ["large", "rare", "frequent", "dear"]


def test_an_old_favourite_ages() -> None:
    worth = GreedyDual()
    for _ in range(100):
        worth.use("old")
    worth.weigh("old", 10, 1.0)
    for number in range(3000):
        key = f"new-{number}"
        worth.use(key)
        worth.weigh(key, 10, 1.0)
        victim = worth.cheapest(["old", key])
        assert victim is not None
        worth.evict(victim)
        if victim == "old":
            return
    pytest.fail("the floor never rose above a thing nobody uses any more")


def test_memory_of_uses_is_bounded() -> None:
    worth = GreedyDual()
    for number in range(20 * HALVE_EVERY):
        worth.use(str(number))
    assert len(worth._uses) <= 2 * HALVE_EVERY
