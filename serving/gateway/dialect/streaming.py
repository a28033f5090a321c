"""An answer as server-sent events. Knows the protocol's order; the dialect knows the documents."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial

import msgspec

from registry.errors import LorimerError
from serving.gateway.calls import Call
from serving.gateway.dialect.answers import Answers, chunk, last_chunk
from serving.gateway.errors import envelope
from serving.gateway.generation import Row
from serving.gateway.wire.chat import ChunkChoice
from serving.gateway.wire.completion import TextChoice
from serving.request import Event, Token

HEARTBEAT_S = 15.0
KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"

_encode = msgspec.json.Encoder().encode


def event(document: object) -> bytes:
    return b"data: " + _encode(document) + b"\n\n"


async def stream(
    call: Call, answers: Answers, *, include_usage: bool, heartbeat_s: float = HEARTBEAT_S
) -> AsyncIterator[bytes]:
    """Opening, tokens and closing of every row, then usage and [DONE]; closing the iterator early aborts the rows."""
    rows = call.generation.rows
    told = partial(chunk, call, answers, include_usage=include_usage)
    opened: set[int] = set()
    try:
        async for item in call.generation.events(heartbeat_s):
            if item is None:
                yield KEEP_ALIVE
                continue
            index, happened = item
            if failure := rows[index].failure():
                raise failure
            for choice in _choices(answers, opened, index, rows[index], happened):
                yield event(told(choice))
        if include_usage:
            yield event(last_chunk(call, answers))
        yield DONE
    except LorimerError as error:
        call.trace.failure = error
        yield event(envelope(error))
    finally:
        call.generation.abort()


def _choices(
    answers: Answers, opened: set[int], index: int, row: Row, happened: Event
) -> Iterator[ChunkChoice | TextChoice]:
    """What one event of a row adds to the stream."""
    if index not in opened:
        opened.add(index)
        yield from answers.opening(index, happened)
    yield from answers.delta(index, happened) if isinstance(happened, Token) else answers.closing(index, row)
