"""An answer as OpenAI's chat completion, whole or in chunks. Runs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from serving.gateway.dialect.answers import Kind, Spell, finish_reason
from serving.gateway.dialect.logprobs import token_logprobs
from serving.gateway.generation import Row
from serving.gateway.tools.offer import Offer
from serving.gateway.tools.pieces import Pieces
from serving.gateway.tools.reader import Begin, Piece, Text
from serving.gateway.wire.chat import AnswerMessage, ChatChoice, ChatLogprobs, ChunkChoice, Delta
from serving.gateway.wire.generation import FinishReason
from serving.gateway.wire.tool import FunctionCall, FunctionDelta, ToolCall, ToolCallDelta
from serving.request import Event, Token


@dataclass
class ChatAnswers:
    spell: Spell
    offer: Offer | None = None
    """What may be called in the answers."""
    whole: Kind = "chat.completion"
    chunk: Kind = "chat.completion.chunk"
    _pieces: dict[int, Pieces] = field(default_factory=dict)
    """Of the rows that are streamed."""

    def choices(self, rows: Sequence[Row]) -> list[ChatChoice]:
        return [self._choice(index, row) for index, row in enumerate(rows)]

    def opening(self, index: int, first: Event) -> list[ChunkChoice]:
        self._pieces[index] = Pieces(self.offer)
        return [ChunkChoice(index=index, delta=Delta(role="assistant", content=""))]

    def delta(self, index: int, token: Token) -> list[ChunkChoice]:
        deltas = [_delta(piece) for piece in self._pieces[index].of(token)]
        if token.logprob is None:
            return [ChunkChoice(index=index, delta=each) for each in deltas]
        first, *rest = deltas or [Delta(content="")]
        chunk = ChunkChoice(index=index, delta=first, logprobs=self._logprobs([token]))
        return [chunk, *(ChunkChoice(index=index, delta=each) for each in rest)]

    def closing(self, index: int, row: Row) -> list[ChunkChoice]:
        pieces = self._pieces[index]
        left = [ChunkChoice(index=index, delta=_delta(piece)) for piece in pieces.end()]
        return [*left, ChunkChoice(index=index, delta=Delta(), finish_reason=_reason(row, pieces))]

    def _choice(self, index: int, row: Row) -> ChatChoice:
        pieces = Pieces(self.offer)
        return ChatChoice(
            index=index,
            message=message_of(pieces.all(row.tokens)),
            logprobs=self._logprobs(row.tokens) if row.request.sampling.logprobs is not None else None,
            finish_reason=_reason(row, pieces),
        )

    def _logprobs(self, tokens: Sequence[Token]) -> ChatLogprobs:
        return ChatLogprobs(content=token_logprobs(self.spell, tokens))


def message_of(pieces: Sequence[Piece]) -> AnswerMessage:
    """Without text, the content of a message that calls is null."""
    text, calls = "", list[ToolCall]()
    for piece in pieces:
        if isinstance(piece, Text):
            text += piece.text
        elif isinstance(piece, Begin):
            calls.append(ToolCall(id=piece.id, function=FunctionCall(name=piece.name, arguments="")))
        else:
            called = calls[-1].function
            grown = FunctionCall(name=called.name, arguments=called.arguments + piece.text)
            calls[-1] = ToolCall(id=calls[-1].id, function=grown)
    return AnswerMessage(content=text.rstrip() or None, tool_calls=calls) if calls else AnswerMessage(content=text)


def _delta(piece: Piece) -> Delta:
    if isinstance(piece, Text):
        return Delta(content=piece.text)
    if isinstance(piece, Begin):
        function = FunctionDelta(name=piece.name, arguments="")
        return Delta(
            tool_calls=[ToolCallDelta(index=piece.index, id=piece.id, type="function", function=function)],
        )
    return Delta(tool_calls=[ToolCallDelta(index=piece.index, function=FunctionDelta(arguments=piece.text))])


def _reason(row: Row, pieces: Pieces) -> FinishReason:
    reason = finish_reason(row)
    return "tool_calls" if reason == "stop" and pieces.has_calls else reason
