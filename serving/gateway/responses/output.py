"""The items of a response as they grow, and the events that tell of it. Knows no HTTP and no engine.

output_item.added, content_part.added, output_text.delta ..., output_text.done, content_part.done, output_item.done
output_item.added, function_call_arguments.delta ..., function_call_arguments.done, output_item.done
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from serving.gateway.tools.reader import Begin, Piece, Text
from serving.gateway.wire.chat import TokenLogprob
from serving.gateway.wire.response import OutputCall, OutputItem, OutputMessage, OutputText, Status

Told = tuple[str, dict[str, Any]]
"""An event's type and its fields."""


@dataclass(eq=False)
class Output:
    """`take` pieces in order, then `close` once; `items` are those that are done."""

    items: list[OutputItem] = field(default_factory=list)
    _open: OutputItem | None = None
    _logprobs: list[TokenLogprob] = field(default_factory=list)
    """Of tokens whose text is not out yet."""

    def take(self, pieces: list[Piece], logprobs: list[TokenLogprob]) -> Iterator[Told]:
        """`logprobs` of the tokens that the pieces came with belong to the text they are told with."""
        self._logprobs += logprobs
        for piece in pieces:
            if isinstance(piece, Text):
                yield from self._say(piece.text)
            elif isinstance(piece, Begin):
                yield from self._begin_call(piece)
            else:
                yield from self._argue(piece.text)

    def close(self, status: Status) -> Iterator[Told]:
        """An answer without text and calls is one empty message."""
        if self._open is None and not self.items:
            yield from self._begin_message()
        yield from self._end(status)

    def _say(self, text: str) -> Iterator[Told]:
        if not isinstance(self._open, OutputMessage):
            yield from self._end("completed")
            yield from self._begin_message()
        assert isinstance(self._open, OutputMessage)
        (part,) = self._open.content
        fresh, self._logprobs = self._logprobs, []
        grown = OutputText(text=part.text + text, logprobs=[*part.logprobs, *fresh])
        self._open = OutputMessage(id=self._open.id, status="in_progress", content=[grown])
        yield "response.output_text.delta", self._at() | {"content_index": 0, "delta": text, "logprobs": fresh}

    def _begin_message(self) -> Iterator[Told]:
        self._open = OutputMessage(id=_new("msg"), status="in_progress", content=[OutputText(text="")])
        bare = OutputMessage(id=self._open.id, status="in_progress", content=[])
        yield "response.output_item.added", {"output_index": len(self.items), "item": bare}
        yield "response.content_part.added", self._at() | {"content_index": 0, "part": OutputText(text="")}

    def _begin_call(self, begun: Begin) -> Iterator[Told]:
        yield from self._end("completed")
        self._open = OutputCall(id=_new("fc"), status="in_progress", call_id=begun.id, name=begun.name, arguments="")
        yield "response.output_item.added", {"output_index": len(self.items), "item": self._open}

    def _argue(self, text: str) -> Iterator[Told]:
        call = self._open
        assert isinstance(call, OutputCall), "arguments come after their call"
        self._open = _with(call, arguments=call.arguments + text, status="in_progress")
        yield "response.function_call_arguments.delta", self._at() | {"delta": text}

    def _end(self, status: Status) -> Iterator[Told]:
        done = self._open
        if done is None:
            return
        at = self._at()
        if isinstance(done, OutputMessage):
            (part,) = done.content
            done = OutputMessage(id=done.id, status=status, content=[part])
            told = {"content_index": 0, "text": part.text, "logprobs": part.logprobs}
            yield "response.output_text.done", at | told
            yield "response.content_part.done", at | {"content_index": 0, "part": part}
        else:
            done = _with(done, arguments=done.arguments, status=status)
            yield "response.function_call_arguments.done", at | {"name": done.name, "arguments": done.arguments}
        yield "response.output_item.done", {"output_index": len(self.items), "item": done}
        self._open = None
        self.items.append(done)

    def _at(self) -> dict[str, Any]:
        assert self._open is not None
        return {"output_index": len(self.items), "item_id": self._open.id}


def _with(call: OutputCall, *, arguments: str, status: Status) -> OutputCall:
    return OutputCall(id=call.id, status=status, call_id=call.call_id, name=call.name, arguments=arguments)


def _new(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex}"
