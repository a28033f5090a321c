"""Streaming through the gateway against the engine called directly: `python -m benchmarks.streaming PLAN`.

Sixteen clients, an adapter each, one request after the other; the clients of the gateway live in a process of their
own and speak HTTP over real sockets to granian. Both ways are timed from the first request to the last answer's end,
in many short rounds, since the machine's speed wanders by more than what is looked for.
"""

from __future__ import annotations

import contextlib
import json
import random
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
EACH = 2
ROUNDS = 10
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
    """Each way once in a round, either way first in turn; what is lost is of all rounds' seconds together."""
    vocab_size = gateway.base.profile.vocab_size
    seconds = {"engine": 0.0, "gateway": 0.0}
    with GatewayServer(gateway) as server:
        ways = {"engine": lambda todo: directly(gateway, todo), "gateway": lambda todo: through_gateway(server, todo)}
        for seed, way in enumerate(ways.values(), 1):
            way(jobs(1, -seed, vocab_size))
        settle()
        for number in range(rounds):
            rates = {}
            for name in sorted(ways, reverse=number % 2 == 1):
                todo = jobs(each, 2 * number + (name == "gateway"), vocab_size)
                rates[name] = ways[name](todo)
                seconds[name] += len(todo) * ANSWER / rates[name]
            say(note=f"engine {rates['engine']:,.0f}, gateway {rates['gateway']:,.0f} tokens/s")
    num_tokens = rounds * each * CLIENTS * ANSWER
    return {
        "clients": CLIENTS,
        "engine_tokens_per_s": num_tokens / seconds["engine"],
        "gateway_tokens_per_s": num_tokens / seconds["gateway"],
        "lost": 1 - seconds["engine"] / seconds["gateway"],
    }


def main() -> None:
    plan = told()
    count = fleet.SMALL if plan["quick"] else fleet.SIZE
    adapters = [Path(path) for path in plan["adapters"]]
    with fleet.gateway(Path(plan["work"]), adapters, plan["threads"], count, lambda line: say(note=line)) as gateway:
        say(measure=compare(gateway, 1 if plan["quick"] else EACH, 1 if plan["quick"] else ROUNDS))


if __name__ == "__main__":
    main()
