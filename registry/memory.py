"""What this machine remembers of a log it has read: a file outside the bucket, where no thief of the bucket can write.

It tells a log that was cut short or forked since, which nothing in the bucket can tell, and it is where the next
process begins to fold. Knows nothing of what the state means.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from registry.canonical import sha256
from registry.checkpoints import Position
from registry.errors import Corrupt, LorimerError
from registry.store import write_atomically

State = TypeVar("State")


class _Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """`fold` says how `state` was made; under another fold only the head is worth something."""

    n: int
    head: str
    fold: str
    state: msgspec.Raw


class Memory(Generic[State]):
    """Of one log. Processes may share it: it moves forward only, and forgetting costs protection, never truth."""

    def __init__(self, path: Path, state_type: Any, fold: str) -> None:
        self._path = path
        self._fold = fold
        self._decoder: msgspec.json.Decoder[State] = msgspec.json.Decoder(state_type)

    def resume(self, read: Callable[[int], bytes | None]) -> Position[State] | None:
        """Where to begin; Corrupt where the event remembered is gone or another. `read` gives an event's bytes."""
        if (remembered := self._load()) is None:
            return None
        if sha256(read(remembered.n) or b"") != remembered.head:
            raise Corrupt(
                f"event {remembered.n} is not what this machine read before: the log was cut short or forked",
                hint=f"if the store was put back to an older copy on purpose, remove {self._path}",
            )
        if remembered.fold != self._fold:
            return None
        with suppress(msgspec.DecodeError):
            return Position(remembered.n, remembered.head, self._decoder.decode(remembered.state))
        return None

    def keep(self, position: Position[State]) -> None:
        """A reader that cannot remember still reads."""
        if (before := self._load()) is not None and before.n >= position.n and before.fold == self._fold:
            return
        state = msgspec.Raw(msgspec.json.encode(position.state))
        made = _Remembered(n=position.n, head=position.head, fold=self._fold, state=state)
        with suppress(LorimerError, OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path, [msgspec.json.encode(made)])

    def _load(self) -> _Remembered | None:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_Remembered)
        except (OSError, msgspec.DecodeError):
            return None
