"""The calls in an answer, read as it grows: text before them, each call's name, its arguments piece by piece.

    text | opens | {"name": "f", "arguments": { ... } } | closes | ...

What looks like a call and is none, or calls what was not offered, is text. Knows no wire.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import msgspec

from serving.gateway.tools.format import ToolFormat
from serving.gateway.tools.span import Span

_HEADER = re.compile(
    r'\{\s*"name"\s*:\s*(?P<name>"(?:[^"\\]|\\.){0,400}")\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)'
)
DEEPEST = 100
"""Levels of a call that is not written in the usual order. What is nested in it is looked at again if it is none."""
_BETWEEN = " \t\r\n,;["


@dataclass(frozen=True)
class Text:
    text: str


@dataclass(frozen=True)
class Begin:
    """A call of `name`, the answer's `index`-th."""

    index: int
    name: str
    id: str = field(default="", compare=False)


@dataclass(frozen=True)
class Arguments:
    """More of the arguments' JSON."""

    index: int
    text: str


Piece = Text | Begin | Arguments


class ToolReader:
    """One answer's. Pieces joined are the same however the answer was cut. `many`: calls after the first count too."""

    def __init__(self, format: ToolFormat, names: Collection[str], *, many: bool = True) -> None:
        self._format = format
        self._names = names
        self._many = many
        self._held = ""
        self._opened = ""
        """What was taken for the beginning of a call, should it turn out to be text."""
        self._span = Span()
        self._num_read = 0
        """Characters of a call that the span has seen."""
        self._told: list[Piece] = []
        self._has_text = False
        self._follows_call = False
        self._read: Callable[[], bool] = self._text
        self.num_calls = 0

    def feed(self, text: str) -> list[Piece]:
        """What has become certain."""
        self._held += text
        while self._held and self._read():
            pass
        return self._taken()

    def end(self) -> list[Piece]:
        """The answer is over: what is still held is text, unless it is the end of a call."""
        if self._read in (self._text, self._call):
            self._say(self._opened + self._held)
        self._held = self._opened = ""
        return self._taken()

    def _taken(self) -> list[Piece]:
        told, self._told = self._told, []
        return told

    def _text(self) -> bool:
        """Up to what opens a call."""
        opens = self._format.opens
        before, opened, after = self._held.partition(opens)
        if opened:
            self._say(before)
            return self._enter(opened, after)
        if self._format.may_be_bare and not self._has_text:
            begun = self._held.lstrip()
            if not begun:
                return False
            if begun.startswith("{"):
                return self._enter("", self._held)
        kept = _overlap(self._held, opens)
        self._say(self._held[: len(self._held) - kept])
        self._held = self._held[len(self._held) - kept :]
        return False

    def _enter(self, opened: str, after: str) -> bool:
        self._opened, self._held, self._read = opened, after, self._call
        self._span, self._num_read = Span(deepest=DEEPEST), 0
        return True

    def _call(self) -> bool:
        """From a call's brace to its arguments; or to its end, where it is not written in the usual order."""
        begun = self._held.lstrip(_BETWEEN if self._format.is_list else None)
        if not begun:
            return False
        if not begun.startswith("{"):
            return self._no_call()
        if (header := _HEADER.match(begun)) and (name := _string(header["name"])) in self._names:
            self._begin(name)
            self._held, self._span, self._read = begun[header.end() :], Span(), self._arguments
            return True
        more = self._span.end(begun[self._num_read :])
        if self._span.is_too_deep:
            return self._no_call()
        if more is None:
            self._num_read = len(begun)
            return False
        end = self._num_read + more
        if (call := _whole(begun[:end])) is None or call[0] not in self._names:
            return self._no_call()
        self._begin(call[0])
        self._argue(call[1])
        self._held, self._read = begun[end:], self._between
        return True

    def _no_call(self) -> bool:
        self._say(self._opened)
        self._opened, self._read, self._has_text = "", self._text, True
        if self._format.opens and self._held.startswith(self._format.opens):
            return True
        self._say(self._held[:1])
        self._held = self._held[1:]
        return True

    def _arguments(self) -> bool:
        end = self._span.end(self._held)
        self._argue(self._held[:end])
        self._held = "" if end is None else self._held[end:]
        if end is not None:
            self._span, self._read = Span(depth=1), self._rest
        return end is not None

    def _rest(self) -> bool:
        """Whatever else the call's object has."""
        end = self._span.end(self._held)
        self._held = "" if end is None else self._held[end:]
        if end is not None:
            self._read = self._between
        return end is not None

    def _between(self) -> bool:
        """What closes a call, or leads to the next without opening it anew."""
        closes, rest = self._format.closes, self._held.lstrip()
        if closes:
            if closes.startswith(rest) and rest != closes:
                return False
            self._held, self._read = rest.removeprefix(closes), self._text
            return True
        rest = rest.lstrip(_BETWEEN)
        if not rest:
            return False
        if rest.startswith("{"):
            return self._enter("", rest)
        self._held, self._read, self._has_text = rest.removeprefix("]"), self._text, True
        return True

    def _begin(self, name: str) -> None:
        self._opened = ""
        self.num_calls += 1
        self._has_text = self._follows_call = True
        if self._counts():
            self._told.append(Begin(self.num_calls - 1, name, self._format.new_id()))

    def _argue(self, text: str) -> None:
        if text and self._counts():
            self._told.append(Arguments(self.num_calls - 1, text))

    def _counts(self) -> bool:
        return self._many or self.num_calls == 1

    def _say(self, text: str) -> None:
        """White space after a call is no text."""
        if self._follows_call:
            text = text.lstrip()
        if text:
            self._follows_call = False
            self._has_text = self._has_text or bool(text.strip())
            self._told.append(Text(text))


def _string(literal: str) -> str:
    try:
        return str(json.loads(literal))
    except ValueError:
        return ""


def _whole(text: str) -> tuple[str, str] | None:
    """Name and arguments of a call in any order; arguments may be JSON in a string."""
    try:
        call = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None
    arguments = call.get("arguments", call.get("parameters", {}))
    name = call.get("name")
    if not isinstance(name, str) or not isinstance(arguments, dict | str):
        return None
    return name, arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def _overlap(text: str, marker: str) -> int:
    """Length of the longest end of `text` that begins `marker`."""
    longest = min(len(text), len(marker) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(marker[:size])), 0)
