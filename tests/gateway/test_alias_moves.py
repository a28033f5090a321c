"""500 alias moves under running traffic: no error, and no answer by a version that was not live meanwhile."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from tests.gateway.conftest import Running

MOVES = 500
CLIENTS = 6


@dataclass(frozen=True)
class Seen:
    status: int
    digest: str
    fingerprint: str
    started: float
    ended: float


@dataclass(frozen=True)
class Move:
    """The alias came to hold `digest` at some moment between the two instants."""

    digest: str
    before: float
    after: float


def live_digests(moves: list[Move], started: float, ended: float) -> set[str]:
    """What the alias may have pointed to at any moment between two instants."""
    ends = [move.after for move in moves[1:]] + [float("inf")]
    return {move.digest for move, until in zip(moves, ends, strict=True) if move.before <= ended and until >= started}


async def ask(http: httpx.AsyncClient, stream: bool) -> Seen:
    body: dict[str, Any] = {"model": "restless", "max_tokens": 2, "messages": [{"role": "user", "content": "hi"}]}
    started = time.time()
    response = await http.post("/v1/chat/completions", json={**body, "stream": stream})
    ended = time.time()
    digest = response.headers.get("x-adapter-digest", "")
    text = response.text
    fingerprints = {part.split('"')[0] for part in text.split('"system_fingerprint":"')[1:]}
    assert len(fingerprints) == 1, text
    return Seen(response.status_code, digest, fingerprints.pop(), started, ended)


async def traffic(url: str, moved: asyncio.Event, seen: list[Seen]) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:

        async def client(number: int) -> None:
            while not moved.is_set():
                seen.append(await ask(http, stream=number % 2 == 0))

        await asyncio.gather(*(client(number) for number in range(CLIENTS)))


def test_five_hundred_moves(running: Running) -> None:
    versions = [running.publish("restless", seed) for seed in (61, 62, 63)]
    moves = [Move(versions[-1].digest, 0.0, time.time())]
    seen: list[Seen] = []

    def move() -> None:
        for index in range(MOVES):
            target, before = versions[index % 3], time.time()
            running.registry.alias("restless", "prod", target)
            moves.append(Move(target.digest, before, time.time()))
            time.sleep(0.005)

    async def both() -> None:
        moved = asyncio.Event()
        asking = asyncio.create_task(traffic(running.server.url, moved, seen))
        await asyncio.to_thread(move)
        moved.set()
        await asking

    asyncio.run(both())
    assert len(seen) > 50
    assert {each.status for each in seen} == {200}
    assert all(each.digest == each.fingerprint for each in seen)
    assert len({each.digest for each in seen}) == 3
    stale = [each for each in seen if each.digest not in live_digests(moves, each.started, each.ended)]
    assert stale == []
