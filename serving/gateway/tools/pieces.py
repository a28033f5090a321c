"""One row's answer as text and calls, from its tokens. Knows no wire."""

from __future__ import annotations

from collections.abc import Sequence

from serving.gateway.tools.offer import Offer
from serving.gateway.tools.reader import Piece, Text, ToolReader
from serving.request import Token


class Pieces:
    """Without an offer everything is text."""

    def __init__(self, offer: Offer | None) -> None:
        self._offer = offer
        self._reader = None if offer is None else ToolReader(offer.format, offer.names, many=offer.many)

    @property
    def has_calls(self) -> bool:
        return self._reader is not None and self._reader.num_calls > 0

    def of(self, token: Token) -> list[Piece]:
        """What has become certain with the row's next token."""
        if self._reader is None or self._offer is None:
            return [Text(token.text)] if token.text else []
        opens = self._offer.format.opens
        is_hidden = self._offer.is_hidden and token.id == self._offer.tokens[opens]
        return self._reader.feed(opens if is_hidden else token.text)

    def end(self) -> list[Piece]:
        return [] if self._reader is None else self._reader.end()

    def all(self, tokens: Sequence[Token]) -> list[Piece]:
        """Of a whole answer, from first to last."""
        return [*(piece for token in tokens for piece in self.of(token)), *self.end()]
