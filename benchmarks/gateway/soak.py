"""A long time of mixed traffic over HTTP: answers, refusals, deadlines, hang-ups. Memory stays flat, no row is left."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections import Counter
from typing import Any

from benchmarks.gateway.client import ask
from benchmarks.gateway.load import Plan, Say, body
from benchmarks.gateway.process import Served

CLIENTS = 24
SAMPLE_S = 2.0
WARM_UP = 0.3
"""This share of the samples comes before the measurement."""


def measure(served: Served, plan: Plan, minutes: float, say: Say) -> dict[str, Any]:
    ended, samples = asyncio.run(_run(served, plan, 60 * minutes, say))
    settled = served.settle()
    warm = samples[int(len(samples) * WARM_UP) :]
    slope = statistics.linear_regression(*zip(*warm, strict=True)).slope if len(warm) > 2 else 0.0
    span_s = warm[-1][0] - warm[0][0]
    middle = statistics.median(size for _, size in warm)
    return {
        "minutes": minutes,
        "requests": ended.total(),
        "ended": dict(ended),
        "resident_warm_mb": warm[0][1] / 1e6,
        "resident_end_mb": warm[-1][1] / 1e6,
        "resident_growth": slope * span_s / middle,
        "rows_left": served.rows(),
        "settled": settled,
        "open_files": served.open_files(),
        "unexpected": ended["broken"] + ended["stuck"] + ended["broken off"] + ended["internal_error"],
    }


async def _run(served: Served, plan: Plan, seconds: float, say: Say) -> tuple[Counter[str], list[tuple[float, int]]]:
    rng, ended, samples = random.Random(plan.seed), Counter[str](), list[tuple[float, int]]()
    began = time.monotonic()
    until = began + seconds

    async def client() -> None:
        while time.monotonic() < until:
            fields, headers, leave = _mood(rng)
            outcome = await ask(served.port, {**body(served, plan, rng), **fields}, headers, leave)
            ended[outcome.code or "answered"] += 1

    async def watch() -> None:
        while time.monotonic() < until:
            samples.append((time.monotonic() - began, served.resident_bytes()))
            if len(samples) % 30 == 0:
                say(f"{samples[-1][0]:.0f} s: {samples[-1][1] / 1e6:.0f} MB, {ended.total():,} requests")
            await asyncio.sleep(SAMPLE_S)

    await asyncio.gather(watch(), *(client() for _ in range(CLIENTS)))
    return ended, samples


def _mood(rng: random.Random) -> tuple[dict[str, Any], dict[str, str], float | None]:
    """What this request changes of a plain one: fields, headers, and when its client leaves."""
    kind = rng.random()
    if kind < 0.15:
        return {"max_tokens": rng.randint(1, 200)}, {}, rng.uniform(0.001, 0.3)
    if kind < 0.25:
        return {"max_tokens": 200}, {"x-request-timeout": f"{rng.uniform(0.01, 0.5):.3f}"}, None
    if kind < 0.30:
        return {"model": "nobody"}, {}, None
    if kind < 0.35:
        return {"n": 4, "temperature": 1.0}, {}, None
    if kind < 0.40:
        return {"prompt": "word " * rng.choice([10, 5000])}, {}, None
    return {"max_tokens": rng.randint(1, 64)}, {}, None
