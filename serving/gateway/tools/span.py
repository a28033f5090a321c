"""Where a JSON object ends in a text that is still growing. Checks nothing else of it."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(eq=False)
class Span:
    """Fed from the object's first character on; `depth` is 1 where its opening brace was seen elsewhere.

    Nothing after the `deepest` level is looked at.
    """

    depth: int = 0
    deepest: float = math.inf
    _in_string: bool = False
    _escaped: bool = False

    @property
    def is_too_deep(self) -> bool:
        return self.depth > self.deepest

    def end(self, text: str) -> int | None:
        """How many characters of the next piece belong to the object, once its last one is among them."""
        for index, character in enumerate(text):
            if self._in_string:
                if self._escaped:
                    self._escaped = False
                elif character == "\\":
                    self._escaped = True
                elif character == '"':
                    self._in_string = False
            elif character == '"':
                self._in_string = True
            elif character in "{[":
                self.depth += 1
                if self.is_too_deep:
                    return None
            elif character in "}]":
                self.depth -= 1
                if self.depth == 0:
                    return index + 1
        return None
