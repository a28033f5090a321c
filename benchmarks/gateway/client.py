"""One streaming request over a connection of its own, and how it ended. Costs little beside the gateway it loads."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.gateway.process import HOST

GIVE_UP_S = 120.0


@dataclass(frozen=True)
class Outcome:
    """`status` 0: the connection broke. `code`: what an error calls itself, in a stream too. Times are monotonic."""

    status: int
    code: str
    retry_after: str | None
    asked_at: float
    first_at: float | None
    ended_at: float
    chunks: int

    @property
    def is_good(self) -> bool:
        return self.status == 200 and not self.code


async def ask(
    port: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None, leave_after_s: float | None = None
) -> Outcome:
    """`leave_after_s`: hang up then, whatever has come."""
    asked_at = time.monotonic()
    heard = _Heard()
    try:
        async with asyncio.timeout(leave_after_s or GIVE_UP_S):
            await _exchange(port, body, headers or {}, heard)
    except TimeoutError:
        heard.code = heard.code or ("left" if leave_after_s else "stuck")
    except OSError:
        heard.status, heard.code = 0, "broken"
    return Outcome(
        heard.status, heard.code, heard.retry_after, asked_at, heard.first_at, time.monotonic(), heard.chunks
    )


@dataclass
class _Heard:
    status: int = 0
    code: str = ""
    retry_after: str | None = None
    first_at: float | None = None
    chunks: int = 0


async def _exchange(port: int, body: Mapping[str, Any], headers: Mapping[str, str], heard: _Heard) -> None:
    payload = json.dumps(body).encode()
    told = {"host": HOST, "content-type": "application/json", "connection": "close", **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in {**told, "content-length": len(payload)}.items())
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(f"POST /v1/completions HTTP/1.1\r\n{head}\r\n".encode() + payload)
        heard.status = int((await reader.readline() or b"x 0").split()[1])
        while (line := await reader.readline()).strip():
            name, _, value = line.decode("latin-1").partition(":")
            if name.lower() == "retry-after":
                heard.retry_after = value.strip()
        if heard.status == 200:
            await _events(reader, heard)
        else:
            document = (await reader.read()).partition(b"{")[2].rpartition(b"}")[0]
            heard.code = str(json.loads(b"{" + document + b"}")["error"]["code"])
    finally:
        writer.close()


async def _events(reader: asyncio.StreamReader, heard: _Heard) -> None:
    over = False
    async for line in reader:
        if line.startswith(b'data: {"error"'):
            heard.code = str(json.loads(line.removeprefix(b"data: "))["error"]["code"])
        elif line.startswith(b"data: [DONE]"):
            over = True
        elif line.startswith(b"data: "):
            heard.first_at = heard.first_at or time.monotonic()
            heard.chunks += 1
    if not over and not heard.code:
        heard.code = "broken off"
