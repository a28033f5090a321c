"""An answer as server-sent events. Knows the protocol's order; the dialect knows the documents."""

from __future__ import annotations

from collections.abc import AsyncIterator

from registry.errors import LorimerError
from serving.gateway.calls import Call
from serving.gateway.dialect.answers import Answers, around_choice, encode, last_chunk
from serving.gateway.errors import envelope
from serving.gateway.wire.chat import ChunkChoice
from serving.gateway.wire.completion import TextChoice
from serving.request import Event, Finished, Token

HEARTBEAT_S = 15.0
KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"


def event(document: object) -> bytes:
    return b"data: " + encode(document) + b"\n\n"


async def stream(
    call: Call, answers: Answers, *, include_usage: bool, heartbeat_s: float = HEARTBEAT_S
) -> AsyncIterator[bytes]:
    """Opening, tokens and closing of every row, then usage and [DONE]; closing the iterator early aborts the rows.

    What has piled up while the last piece went out comes as one piece, of as many events as ever; so does the end.
    """
    told: list[bytes] = []
    try:
        chunks = _Chunks(call, answers, include_usage=include_usage)
        async for happened in call.generation.events(heartbeat_s):
            for index, each in happened:
                told += chunks.of(index, each)
            if not happened:
                told.append(KEEP_ALIVE)
            if told and not call.generation.is_over:
                yield b"".join(told)
                told.clear()
        if include_usage:
            told.append(event(last_chunk(call, answers)))
        yield b"".join([*told, DONE])
    except LorimerError as error:
        call.trace.failure = error
        yield b"".join([*told, event(envelope(error))])
    finally:
        call.generation.abort()


class _Chunks:
    """What the events of a call's rows add to its stream."""

    def __init__(self, call: Call, answers: Answers, *, include_usage: bool) -> None:
        self._rows = call.generation.rows
        self._answers = answers
        self._opened: set[int] = set()
        before, after = around_choice(call, answers, include_usage=include_usage)
        self._before, self._after = b"data: " + before, after + b"\n\n"

    def of(self, index: int, happened: Event) -> list[bytes]:
        """Raises what the row failed with."""
        row, choices = self._rows[index], list[ChunkChoice | TextChoice]()
        if isinstance(happened, Finished) and (failure := row.failure()):
            raise failure
        if index not in self._opened:
            self._opened.add(index)
            choices += self._answers.opening(index, happened)
        if isinstance(happened, Token):
            choices += self._answers.delta(index, happened)
        else:
            choices += self._answers.closing(index, row)
        return [self._before + encode(choice) + self._after for choice in choices]
