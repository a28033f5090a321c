"""Tokens to text, one at a time. Holds back half a character and anything that may still become a stop string."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

PARTIAL = "\ufffd"
"""What a tokenizer decodes half a character to."""
LONGEST = 32
"""More halves in a row than any character has: they will never be whole. Nor will more tokens without text be kept."""


class Decoder(Protocol):
    """The part of a `tokenizers.Tokenizer` that is needed here."""

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str: ...


class Detokenizer:
    """The text of one growing answer.

    Decoding starts at `window`, the last place where the text ended on a whole character with one chunk of context
    before it (decoders treat the very first token differently); `shown` characters of it have been given out.
    """

    def __init__(self, decoder: Decoder, stop: Sequence[str] = ()) -> None:
        self._decoder = decoder
        self._stop = stop
        self._tokens: list[int] = []
        self._window = 0
        self._context = 0
        self._shown = 0
        self._held = ""
        self.stopped = False

    def add(self, token: int, may_stop: bool = True) -> str:
        """The text that has become certain. Sets `stopped` once a stop string is complete; it and the rest are cut.

        A stop string that is complete before the answer `may_stop` is text like any other.
        """
        self._tokens.append(token)
        text = self._decode(self._window)
        whole = text.rstrip(PARTIAL)
        end = len(self._tokens)
        if len(text) - len(whole) > LONGEST and self._begins_anew(token, text):
            whole, end = text[: -len(self._decode(end - 1))], end - 1
        fresh = whole[self._shown :]
        self._shown = max(self._shown, len(whole))
        if text and (whole == text or end < len(self._tokens)):
            self._slide(end)
        elif not text and end - self._window > LONGEST:
            self._window = self._context = end - 1
        return self._release(fresh, may_stop)

    def flush(self) -> str:
        """What is still held when the answer ends for another reason than a stop string."""
        if self.stopped:
            return ""
        text = self._decode(self._window)
        rest = self._held + text[self._shown :]
        self._held, self._shown = "", max(self._shown, len(text))
        return rest

    def _decode(self, begin: int, end: int | None = None) -> str:
        return self._decoder.decode(self._tokens[begin:end], skip_special_tokens=True)

    def _begins_anew(self, token: int, text: str) -> bool:
        """Whether the newest token is no part of a character that began before it."""
        return bool(last := self._decoder.decode([token])) and self._decode(self._window, -1) + last == text

    def _slide(self, end: int) -> None:
        """The text is whole up to there: keep only the newest chunk as context for the next."""
        if self._context <= self._window:
            self._context = end
            return
        context = self._decode(self._context, end)
        self._window, self._context, self._shown = self._context, end, len(context)

    def _release(self, fresh: str, may_stop: bool) -> str:
        text = self._held + fresh
        cuts = [at for stop in self._stop if (at := text.find(stop)) >= 0]
        if cuts and may_stop:
            self.stopped, self._held = True, ""
            return text[: min(cuts)]
        keep = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
