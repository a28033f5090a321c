"""What hostile clients cost the others: polite requests in quiet and beside hostile ones, in turns."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import statistics
import time
from contextlib import suppress
from multiprocessing.synchronize import Event
from typing import Any

from benchmarks.gateway.client import ask
from benchmarks.gateway.load import Plan, Say, body
from benchmarks.gateway.process import HOST, Served

POLITE = 4
ROUNDS = 4
RATE = 10.0
"""Hostile requests a second, of all kinds in turn."""
HELD = 200
"""Connections that say nothing, or half a head, all the while."""
JSON = "content-type: application/json\r\n"


def _post(payload: bytes) -> bytes:
    head = (
        f"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\n"
        f"connection: close\r\n{JSON}content-length: {len(payload)}\r\n\r\n"
    )
    return head.encode() + payload


def _field(text: bytes) -> bytes:
    return _post(b'{"model": "nobody", "prompt": "x", ' + text + b"}")


KINDS = {
    "100,000 levels": _post(b'{"x":' * 100_000),
    "not a number": _field(b'"temperature": NaN'),
    "bad UTF-8": _field(b'"user": "\xff"'),
    "20 MB of header": b"GET /health HTTP/1.1\r\nx: " + b"y" * (20 << 20) + b"\r\n\r\n",
    "huge n": _field(b'"n": 1000000000'),
    "a million stops": _field(b'"stop": [' + b'"a",' * 999_999 + b'"a"]'),
    "a text of 1 MB": _post(b'{"model": "MODEL", "prompt": "' + b"word " * 200_000 + b'"}'),
    "a body beyond the limit": _post(b"x" * (5 << 20)),
    "two lengths": b"POST /v1/completions HTTP/1.1\r\ncontent-length: 3\r\ncontent-length: 9\r\n\r\nabc",
    "a way out": b"GET /api/adapters/%2e%2e%2f%2e%2e/log HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
    "another's adapter": _post(b'{"model": "other/alpha@prod", "prompt": "x"}'),
}


def measure(served: Served, plan: Plan, say: Say) -> dict[str, Any]:
    """Latencies of whole answers, in quiet and beside the hostile."""
    quiet: list[float] = []
    beside: list[float] = []
    asyncio.run(_polite(served, plan, plan.seconds / 2))
    for number in range(ROUNDS):
        quiet += asyncio.run(_polite(served, plan, plan.seconds))
        beside += asyncio.run(_beside(served, plan))
        say(f"round {number + 1}: p99 {_p99(quiet):.0f} ms in quiet, {_p99(beside):.0f} ms beside the hostile")
    return {
        "rate": RATE,
        "held": HELD,
        "kinds": list(KINDS),
        "answers": [len(quiet), len(beside)],
        "p50_ms": [statistics.median(quiet), statistics.median(beside)],
        "p99_ms": [_p99(quiet), _p99(beside)],
        "p99_ratio": _p99(beside) / _p99(quiet),
    }


async def _polite(served: Served, plan: Plan, seconds: float) -> list[float]:
    rng, until = random.Random(plan.seed), time.monotonic() + seconds
    taken: list[float] = []

    async def client() -> None:
        while time.monotonic() < until:
            outcome = await ask(served.port, body(served, plan, rng))
            if not outcome.is_good:
                raise RuntimeError(f"a polite request failed: {outcome}")
            taken.append(1000 * (outcome.ended_at - outcome.asked_at))

    await asyncio.gather(*(client() for _ in range(POLITE)))
    return taken


async def _beside(served: Served, plan: Plan) -> list[float]:
    """The hostile have a process of their own, so that they cost the polite nothing but the gateway's time."""
    held = [await asyncio.open_connection(HOST, served.port) for _ in range(HELD)]
    for _, writer in held[::2]:
        writer.write(b"GET /health HTTP/1.1\r\nhost: localhost\r\nx-slow: ")
    spawn = multiprocessing.get_context("spawn")
    begun = spawn.Event()
    hostile = spawn.Process(target=send_all, args=(served, begun), daemon=True)
    hostile.start()
    try:
        await asyncio.to_thread(begun.wait)
        return await _polite(served, plan, plan.seconds)
    finally:
        hostile.kill()
        hostile.join()
        for _, writer in held:
            writer.close()


def send_all(served: Served, begun: Event) -> None:
    """Until killed. `begun`: nothing is left to be imported."""
    begun.set()
    asyncio.run(_hostile(served))


async def _hostile(served: Served) -> None:
    sent = [kind.replace(b"MODEL", served.model.encode()) for kind in KINDS.values()]
    running = set[asyncio.Task[None]]()
    number = 0
    while True:
        running.add(asyncio.create_task(_send(served.port, sent[number % len(sent)])))
        running = {each for each in running if not each.done()}
        number += 1
        await asyncio.sleep(1 / RATE)


async def _send(port: int, raw: bytes) -> None:
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                writer.write(raw)
                with suppress(ConnectionError):
                    await writer.drain()
                await reader.read(4096)
            finally:
                writer.close()


def _p99(values: list[float]) -> float:
    return sorted(values)[int(0.99 * (len(values) - 1))]
