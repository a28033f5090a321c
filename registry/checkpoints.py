"""Short cuts to a log's end: the fold after every 64th event, and a hint where the end was. Derived, never truth.

A checkpoint counts only if its bytes are whole, its fold is this program's, and it names the event that is there;
anything else is passed over, and the log is folded from further back. So a lost, stale or damaged object here
costs time and nothing more. Knows nothing of what the state means.

    <prefix>/HEAD                  {n}: some event was the newest
    <prefix>/ckpt/<n:020d>.json    the fold after event n
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

import msgspec

from registry.canonical import canonical
from registry.errors import LorimerError
from registry.sealed import is_whole, seal
from registry.store import Store

CHECKPOINT_EVERY = 64

State = TypeVar("State")


@dataclass(frozen=True)
class Position(Generic[State]):
    """The fold of events 1..n; `head` is the sha256 of event n."""

    n: int
    head: str
    state: State


class Checkpoint(msgspec.Struct, Generic[State], frozen=True, kw_only=True):
    """`fold` is the version of the function that made `state`."""

    n: int
    head: str
    fold: int
    state: State
    sum: str = ""


class Head(msgspec.Struct, frozen=True):
    n: Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class Checkpoints(Generic[State]):
    """The checkpoints of one log. No method raises: whoever cannot read or write one does without.

    With `every` 0 there are none, and the hint alone is read and written.
    """

    def __init__(
        self, store: Store, prefix: str, state_type: type[State], fold: int, every: int = CHECKPOINT_EVERY
    ) -> None:
        self._store = store
        self._head = f"{prefix}/HEAD"
        self._folder = f"{prefix}/ckpt/"
        self._fold = fold
        self.every = every
        kind: Any = Checkpoint[state_type]  # type: ignore[valid-type]
        self._decoder: msgspec.json.Decoder[Checkpoint[State]] = msgspec.json.Decoder(kind)

    def key(self, n: int) -> str:
        return f"{self._folder}{n:020d}.json"

    def save(self, position: Position[State]) -> None:
        """Called after every commit."""
        with suppress(LorimerError):
            if self.every and position.n % self.every == 0:
                made = Checkpoint(n=position.n, head=position.head, fold=self._fold, state=position.state)
                self._store.create(self.key(position.n), seal(made))
            self._store.put(self._head, canonical(Head(position.n)))

    def at(self, n: int) -> Position[State] | None:
        """The checkpoint of event n, if there is one that counts."""
        return self._load(self.key(n))

    def newest(self) -> tuple[Position[State] | None, int]:
        """Where a cold reader may begin, and an event that may be there: the checkpoint hinted at, or the latest."""
        hint = self._hint()
        if not self.every or (hint is not None and hint < self.every):
            return None, hint or 0
        named = None if hint is None else self.at(hint - hint % self.every)
        return named or self._latest(), hint or 0

    def _hint(self) -> int | None:
        try:
            return msgspec.json.decode(self._store.get(self._head), type=Head).n
        except (LorimerError, msgspec.DecodeError, UnicodeDecodeError):
            return None

    def _latest(self) -> Position[State] | None:
        with suppress(LorimerError):
            for key in sorted(self._store.list(self._folder), reverse=True):
                if (position := self._load(key)) is not None:
                    return position
        return None

    def _load(self, key: str) -> Position[State] | None:
        try:
            data = self._store.get(key)
            saved = self._decoder.decode(data)
        except (LorimerError, msgspec.DecodeError, UnicodeDecodeError):
            return None
        if saved.fold != self._fold or key != self.key(saved.n) or not is_whole(data, saved.sum):
            return None
        return Position(saved.n, saved.head, saved.state)
