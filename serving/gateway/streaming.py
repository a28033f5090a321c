"""An answer as server-sent events. Knows the protocol's order; the dialect knows the documents."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from registry.errors import LorimerError
from serving.gateway.calls import Call
from serving.gateway.dialects import usage_of
from serving.gateway.errors import envelope
from serving.request import Token

HEARTBEAT_S = 15.0
KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"
HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}

_encode = msgspec.json.Encoder().encode


def event(document: object) -> bytes:
    return b"data: " + _encode(document) + b"\n\n"


async def stream(call: Call, *, include_usage: bool, heartbeat_s: float = HEARTBEAT_S) -> AsyncIterator[bytes]:
    """Opening, tokens and closing of every row, then usage and [DONE]; closing the iterator early aborts the rows."""
    dialect, rows = call.dialect, call.generation.rows
    opened: set[int] = set()
    try:
        async for item in call.generation.events(heartbeat_s):
            if item is None:
                yield KEEP_ALIVE
                continue
            index, happened = item
            if failure := rows[index].failure():
                raise failure
            if index not in opened:
                opened.add(index)
                if opening := dialect.opening(index):
                    yield event(call.chunk(opening, include_usage))
            if not isinstance(happened, Token):
                yield event(call.chunk(dialect.closing(index, rows[index]), include_usage))
            elif choices := dialect.delta(index, happened):
                yield event(call.chunk(choices, include_usage))
        if include_usage:
            yield event(call.chunk([], include_usage, usage_of(rows, call.num_prompts)))
        yield DONE
    except LorimerError as error:
        call.trace.failure = error
        yield event(envelope(error))
    finally:
        call.generation.abort()
