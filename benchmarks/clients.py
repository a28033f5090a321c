"""Many streaming HTTP clients in one small process: bodies on standard input, tokens and seconds on standard output.

Speaks just enough HTTP to cost next to nothing beside the server it loads. Standard library only.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from typing import Any

DATA = b"data: "
DONE = b"data: [DONE]"


async def stream(host: str, port: int, body: dict[str, Any]) -> int:
    """One request over a connection of its own; the completion tokens that its last chunk reports."""
    reader, writer = await asyncio.open_connection(host, port)
    payload = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
    writer.write(f"{head}content-length: {len(payload)}\r\nconnection: close\r\n\r\n".encode() + payload)
    status = await reader.readline()
    if b" 200 " not in status:
        raise RuntimeError(f"{status!r}: {(await reader.read())[-500:]!r}")
    last = b""
    async for line in reader:
        if line.startswith(DONE):
            writer.close()
            return int(json.loads(last.removeprefix(DATA))["usage"]["completion_tokens"])
        if line.startswith(DATA):
            last = line
    raise RuntimeError(f"the stream broke off after {last!r}")


async def client(host: str, port: int, bodies: Iterator[dict[str, Any]]) -> int:
    return sum([await stream(host, port, body) for body in bodies])


async def main() -> None:
    told = json.load(sys.stdin)
    bodies = iter(told["bodies"])
    started = time.perf_counter()
    tokens = await asyncio.gather(*(client(told["host"], told["port"], bodies) for _ in range(told["clients"])))
    json.dump({"tokens": sum(tokens), "seconds": time.perf_counter() - started}, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())
