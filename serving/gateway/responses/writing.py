"""A response written whole, or event by event. Knows the protocol's order; the output knows its items."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec

from registry.errors import LorimerError
from serving.gateway.calls import Call
from serving.gateway.dialect.answers import Spell
from serving.gateway.dialect.logprobs import token_logprobs
from serving.gateway.dialect.streaming import HEARTBEAT_S, KEEP_ALIVE
from serving.gateway.errors import envelope
from serving.gateway.generation import Row
from serving.gateway.responses.output import Output
from serving.gateway.responses.question import ResponseQuestion
from serving.gateway.tools.pieces import Pieces
from serving.gateway.wire.chat import TokenLogprob
from serving.gateway.wire.generation import CachedTokens
from serving.gateway.wire.response import (
    IncompleteDetails,
    ModelResponse,
    ResponseError,
    ResponseEvent,
    ResponseUsage,
    Status,
    TextConfig,
)
from serving.request import Event, Token

_encode = msgspec.json.Encoder().encode


class Writer:
    """One response's."""

    def __init__(self, call: Call, question: ResponseQuestion, spell: Spell) -> None:
        self._call = call
        self._asked = question.asked
        self._spell = spell
        self._pieces = Pieces(question.offer)
        self._output = Output()
        self._told = 0

    def whole(self) -> ModelResponse:
        """Its row has ended."""
        (row,) = self._call.generation.rows
        for token in row.tokens:
            for _ in self._output.take(self._pieces.of(token), self._logprobs(token)):
                pass
        for _ in self._last(row):
            pass
        return self._response(_status(row), usage=self._usage())

    async def events(self, heartbeat_s: float = HEARTBEAT_S) -> AsyncIterator[bytes]:
        """Closing the iterator early aborts the row."""
        (row,) = self._call.generation.rows
        try:
            for kind in ("response.created", "response.in_progress"):
                yield self._event(kind, response=self._response("in_progress"))
            async for happened in self._call.generation.events(heartbeat_s):
                piece = b"".join(self._tell(each) for _, each in happened) if happened else KEEP_ALIVE
                if piece:
                    yield piece
            if failure := row.failure():
                raise failure
            for kind, fields in self._last(row):
                yield self._event(kind, **fields)
            status = _status(row)
            yield self._event(f"response.{status}", response=self._response(status, usage=self._usage()))
        except LorimerError as error:
            self._call.trace.failure = error
            yield self._event("response.failed", response=self._response("failed", error=_error(error)))
        finally:
            self._call.generation.abort()

    def _tell(self, happened: Event) -> bytes:
        """What a token adds; the row's end is told apart."""
        if not isinstance(happened, Token):
            return b""
        fields = self._output.take(self._pieces.of(happened), self._logprobs(happened))
        return b"".join(self._event(kind, **each) for kind, each in fields)

    def _last(self, row: Row) -> Iterator[tuple[str, dict[str, Any]]]:
        yield from self._output.take(self._pieces.end(), [])
        yield from self._output.close(_status(row))

    def _logprobs(self, token: Token) -> list[TokenLogprob]:
        return [] if token.logprob is None else token_logprobs(self._spell, [token])

    def _event(self, kind: str, **fields: Any) -> bytes:
        event = ResponseEvent(type=kind, sequence_number=self._told, **fields)
        self._told += 1
        return b"event: " + kind.encode() + b"\ndata: " + _encode(event) + b"\n\n"

    def _response(
        self, status: Status, *, usage: ResponseUsage | None = None, error: ResponseError | None = None
    ) -> ModelResponse:
        asked = self._asked
        return ModelResponse(
            id=self._call.id,
            created_at=self._call.created,
            completed_at=int(time.time()) if status == "completed" else None,
            status=status,
            model=self._call.choice.requested,
            output=list(self._output.items),
            error=error,
            incomplete_details=IncompleteDetails() if status == "incomplete" else None,
            usage=usage,
            instructions=asked.instructions,
            max_output_tokens=asked.max_output_tokens,
            temperature=1.0 if asked.temperature is None else asked.temperature,
            top_p=1.0 if asked.top_p is None else asked.top_p,
            top_logprobs=asked.top_logprobs or 0,
            text=asked.text or TextConfig(),
            tools=asked.tools or [],
            tool_choice=asked.tool_choice or "auto",
            parallel_tool_calls=asked.parallel_tool_calls is not False,
            metadata=asked.metadata or {},
            user=asked.user,
            safety_identifier=asked.safety_identifier,
        )

    def _usage(self) -> ResponseUsage:
        usage = self._call.usage()
        return ResponseUsage(
            input_tokens=usage.prompt_tokens,
            output_tokens=usage.completion_tokens,
            total_tokens=usage.prompt_tokens + usage.completion_tokens,
            input_tokens_details=CachedTokens(cached_tokens=usage.cached_tokens),
        )


def _status(row: Row) -> Status:
    assert row.finished is not None
    return "incomplete" if row.finished.reason == "length" else "completed"


def _error(error: LorimerError) -> ResponseError:
    told = envelope(error).error
    return ResponseError(code=told.code or "server_error", message=told.message)
