"""Streaming through the gateway against the engine called directly: `python -m benchmarks.streaming PLAN`.

Sixteen clients, an adapter each, one request after the other; the clients of the gateway live in a process of their
own and speak HTTP over real sockets to granian. Both ways are timed from the first request to the last answer's end.
"""

from __future__ import annotations

import contextlib
import json
import random
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks import fleet
from benchmarks.drive import Job, closed_loop
from benchmarks.peers.protocol import say, told
from serving.adapter import LoadedAdapter
from serving.gateway.gateway import Gateway
from serving.gateway.server import GatewayServer, settle

CLIENTS = 16
PROMPT = 16
ANSWER = 64
ROUNDS = 3
SCRIPT = Path(__file__).parent / "clients.py"


def jobs(each: int, seed: int, vocab_size: int) -> list[Job]:
    """`each` requests for every client, in turns."""
    rng = random.Random(seed)
    return [
        Job(fleet.name(number % CLIENTS), tuple(rng.randrange(100, vocab_size) for _ in range(PROMPT)), ANSWER)
        for number in range(CLIENTS * each)
    ]


def directly(gateway: Gateway, todo: list[Job]) -> float:
    """Tokens per second, with the adapters leased beforehand."""
    with contextlib.ExitStack() as leases:
        digests = {job.adapter: gateway.home.catalog.choose(str(job.adapter)).digest for job in todo}
        held = {
            name: leases.enter_context(gateway.residency.acquire(str(digest))).adapter
            for name, digest in digests.items()
        }

        @contextlib.contextmanager
        def lend(name: str) -> Iterator[LoadedAdapter]:
            yield held[name]

        return closed_loop(gateway.engine, todo, CLIENTS, lend).rate


def through_gateway(server: GatewayServer, todo: list[Job]) -> float:
    told_clients = {
        "host": server.host,
        "port": server.port,
        "clients": CLIENTS,
        "bodies": [
            {
                "model": job.adapter,
                "prompt": list(job.prompt),
                "max_tokens": job.answer,
                "temperature": 0,
                "ignore_eos": True,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
            for job in todo
        ],
    }
    done = subprocess.run(
        [sys.executable, str(SCRIPT)], input=json.dumps(told_clients), text=True, stdout=subprocess.PIPE, check=True
    )
    found = json.loads(done.stdout)
    if found["tokens"] != sum(job.answer for job in todo):
        raise RuntimeError(f"the gateway streamed {found['tokens']} tokens")
    return float(found["tokens"] / found["seconds"])


def compare(gateway: Gateway, each: int, rounds: int) -> dict[str, float]:
    """In turns, since the machine may become busier."""
    vocab_size = gateway.base.profile.vocab_size
    direct, streamed = [], []
    with GatewayServer(gateway) as server:
        directly(gateway, jobs(1, -1, vocab_size))
        through_gateway(server, jobs(1, -2, vocab_size))
        settle()
        for number in range(rounds):
            direct.append(directly(gateway, jobs(each, 2 * number, vocab_size)))
            streamed.append(through_gateway(server, jobs(each, 2 * number + 1, vocab_size)))
            say(note=f"engine {direct[-1]:,.0f}, gateway {streamed[-1]:,.0f} tokens/s")
    engine_rate, gateway_rate = statistics.median(direct), statistics.median(streamed)
    return {
        "clients": CLIENTS,
        "engine_tokens_per_s": engine_rate,
        "gateway_tokens_per_s": gateway_rate,
        "lost": 1 - gateway_rate / engine_rate,
    }


def main() -> None:
    plan = told()
    count = fleet.SMALL if plan["quick"] else fleet.SIZE
    adapters = [Path(path) for path in plan["adapters"]]
    with fleet.gateway(Path(plan["work"]), adapters, plan["threads"], count, lambda line: say(note=line)) as gateway:
        say(measure=compare(gateway, 1 if plan["quick"] else 4, 1 if plan["quick"] else ROUNDS))


if __name__ == "__main__":
    main()
