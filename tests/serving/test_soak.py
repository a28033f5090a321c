"""A few seconds of what `python -m benchmarks.soak` does for an hour."""

from __future__ import annotations

from pathlib import Path

from benchmarks.soak.memory import Memory
from benchmarks.soak.run import Plan, soak
from registry.settings import Settings
from serving.base import Base


def test_random_traffic_leaves_nothing_behind(tiny_base: Base, tmp_path: Path) -> None:
    settings = Settings(max_batch=16, kv_tokens=1536, prefill_tokens=128, max_context=512)
    plan = Plan(requests=600, adapters=54, budget_share=0.3)
    seen: set[str] = set()
    report = soak(tiny_base, settings, tmp_path, plan, lambda what, _, __: seen.add(what))
    assert report["faults"] == []
    assert report["requests"] == sum(report["ended"].values()) == 600
    assert min(report["ended"][how] for how in ("length", "stop", "abort", "left while loading")) > 0
    assert report["answers_compared"] > 2
    assert report["answers_differing"] == 0
    assert report["evictions"] > 10
    assert report["peak_bytes"] <= report["byte_budget"] or report["overdrafts"]
    assert set(report["kinds"]) == {"lora", "rslora", "dora", "ia3", "prompt", "head"}
    assert seen == {"publish", "soak, requests", "compare"}


def test_growth_is_told_from_noise() -> None:
    leaking, steady = Memory(), Memory()
    for number in range(100):
        warming = 50_000_000 if number < 20 else 100_000_000
        leaking.samples.append((500 * number, warming + 200_000 * number))
        steady.samples.append((500 * number, warming + 500_000 * (number % 2)))
    assert leaking.growth() > 0.1
    assert leaking.slope() > 300
    assert abs(steady.growth()) < 0.01
