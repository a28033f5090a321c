"""Open loop: requests come when they come, whatever became of those before; from capacity to ten times as many.

Capacity is measured first, by clients that wait for their answers. Good is what was answered whole within its deadline.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.gateway.client import Outcome, ask
from benchmarks.gateway.process import Served

TIMES = (1, 2, 4, 7, 10)
DEADLINE_S = 8.0
WARM_UP_S = 4.0
"""Until the queue is as long as it gets."""
ALLOWED = frozenset({"overloaded", "rate_limit_exceeded"})
Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    seconds: float
    answer: int
    seed: int = 1


def measure(served: Served, plan: Plan, seats: int, say: Say) -> dict[str, Any]:
    """The whole table."""
    capacity = asyncio.run(_closed_loop(served, plan, 2 * seats))
    say(f"capacity: {capacity:.1f} answers/s")
    points = []
    for number, times in enumerate(TIMES):
        points.append(_point(served, plan, times * capacity, plan.seed + number) | {"times": times})
        say(_line(points[-1]))
        served.settle()
    peak = max(point["goodput"] for point in points)
    return {
        "capacity": capacity,
        "deadline_s": DEADLINE_S,
        "answer_tokens": plan.answer,
        "points": points,
        "goodput_kept": min(point["goodput"] for point in points) / peak,
        "most_rows": max(point["most_rows"] for point in points),
        "other_errors": sum(point["other_errors"] for point in points),
        "without_retry_after": sum(point["without_retry_after"] for point in points),
    }


async def _closed_loop(served: Served, plan: Plan, clients: int) -> float:
    """Answers per second with every seat taken and a few waiting; the first round is not counted."""
    rng, ended = random.Random(plan.seed), []
    until = time.monotonic() + 2 * plan.seconds / 3 + WARM_UP_S

    async def client() -> None:
        while time.monotonic() < until:
            outcome = await ask(served.port, body(served, plan, rng))
            if outcome.is_good:
                ended.append(outcome.ended_at)

    await asyncio.gather(*(client() for _ in range(clients)))
    counted = sorted(at for at in ended if until - 2 * plan.seconds / 3 <= at <= until)
    return len(counted) / (2 * plan.seconds / 3)


def _point(served: Served, plan: Plan, rate: float, seed: int) -> dict[str, Any]:
    outcomes, most_rows, offered = asyncio.run(_open_loop(served, plan, rate, seed))
    began = min(outcome.asked_at for outcome in outcomes)
    window = (began + WARM_UP_S, began + WARM_UP_S + plan.seconds)
    good = [each for each in outcomes if each.is_good and window[0] <= each.ended_at <= window[1]]
    late = [each for each in good if each.ended_at - each.asked_at > DEADLINE_S + 0.5]
    refused = [each for each in outcomes if each.status in (429, 503)]
    firsts = sorted(each.first_at - each.asked_at for each in good if each.first_at)
    return {
        "offered": offered,
        "goodput": (len(good) - len(late)) / plan.seconds,
        "first_token_p50_s": statistics.median(firsts) if firsts else None,
        "first_token_p99_s": firsts[int(0.99 * len(firsts))] if firsts else None,
        "refusal_p50_ms": 1000 * _median(each.ended_at - each.asked_at for each in refused),
        "ended": dict(Counter(each.code or "answered" for each in outcomes)),
        "retry_after_s": _spread([float(each.retry_after) for each in refused if each.retry_after]),
        "without_retry_after": sum(each.retry_after is None for each in refused),
        "other_errors": sum(not each.is_good and each.code not in ALLOWED for each in outcomes),
        "most_rows": most_rows,
    }


async def _open_loop(served: Served, plan: Plan, rate: float, seed: int) -> tuple[list[Outcome], int, float]:
    rng, asking = random.Random(seed), set[asyncio.Task[Outcome]]()
    most_rows, began = 0, time.monotonic()
    until, due, looked_at = began + WARM_UP_S + plan.seconds, began, began
    headers = {"x-request-timeout": f"{DEADLINE_S:g}"}
    while due < until:
        await asyncio.sleep(due - time.monotonic())
        asking.add(asyncio.create_task(ask(served.port, body(served, plan, rng), headers)))
        due += rng.expovariate(rate)
        if time.monotonic() - looked_at > 1.0:
            most_rows = max(most_rows, await asyncio.to_thread(served.rows))
            looked_at = time.monotonic()
    offered = len(asking) / (time.monotonic() - began)
    return list(await asyncio.gather(*asking)), most_rows, offered


def body(served: Served, plan: Plan, rng: random.Random) -> dict[str, Any]:
    """A prompt that no cache knows."""
    prompt = [rng.randrange(3, 200) for _ in range(16)]
    told = {"model": served.model, "prompt": prompt, "max_tokens": plan.answer, "ignore_eos": True}
    return {**told, "temperature": 0, "stream": True}


def _median(values: Any) -> float:
    found = list(values)
    return statistics.median(found) if found else 0.0


def _spread(values: Sequence[float]) -> list[float] | None:
    """Least, median, most."""
    return [min(values), statistics.median(values), max(values)] if values else None


def _line(point: dict[str, Any]) -> str:
    return (
        f"{point['times']:>3}x: {point['offered']:.1f}/s offered, {point['goodput']:.1f}/s good, "
        f"at most {point['most_rows']} rows, {point['ended']}, retry-after {point['retry_after_s']}"
    )
