"""An append-only, hash-chained log in a store. It serves adapters, jobs and drift episodes alike.

An append folds every earlier event, decides on exactly that state, and creates the next slot if absent. Whoever
creates the slot has committed; everybody else folds the winner's event and decides again. A lost reply is
settled by sending the same bytes to the same slot, so there is no double append and no lost update.
Knows nothing of what the operations mean: `op_type` says how they are written, `apply` how they are folded.

    <prefix>/log/<n:020d>.json     the truth, n = 1, 2, ...
    <prefix>/ckpt/<n:020d>.json    the fold after event n, derived, every 64 events
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import Any, Generic, TypeVar

import msgspec

from registry.canonical import canonical, sha256
from registry.errors import Corrupt, LorimerError, NotFound
from registry.store import Store, create_surely

FORMAT = 1
CHECKPOINT_EVERY = 64
GENESIS = "0" * 64

Op = TypeVar("Op")
State = TypeVar("State")


class Event(msgspec.Struct, Generic[Op], frozen=True, kw_only=True):
    """One committed step. `prev` is the sha256 of the bytes of event n-1; ops of one event are atomic."""

    v: int = FORMAT
    n: int
    prev: str
    tx: str
    actor: str
    time: float
    ops: tuple[Op, ...]
    aliases: dict[str, dict[str, float]] | msgspec.UnsetType = msgspec.UNSET
    """Adapter logs: the alias map after this event, so that one event answers what was served when."""
    next_version: int | msgspec.UnsetType = msgspec.UNSET


@dataclass(frozen=True)
class Position(Generic[State]):
    """The fold of events 1..n; `head` is the sha256 of event n."""

    n: int
    head: str
    state: State


class Checkpoint(msgspec.Struct, Generic[State], frozen=True, kw_only=True):
    n: int
    head: str
    state: State


class Log(Generic[Op, State]):
    """Safe to share between threads: the cached fold is immutable and only ever moves forward."""

    def __init__(
        self,
        store: Store,
        prefix: str,
        clock: Callable[[], float] = time.time,
        *,
        op_type: Any = dict[str, Any],
        initial: State = None,  # type: ignore[assignment]
        apply: Callable[[State, Event[Op]], State] = lambda state, _: state,
        annotate: Callable[[State], dict[str, Any]] = lambda _: {},
        rng: random.Random | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.store = store
        self.prefix = prefix.removesuffix("/")
        self._clock = clock
        self._initial = initial
        self._apply = apply
        self._annotate = annotate
        self._sleep = sleep
        self._rng = rng or random.SystemRandom()
        self._decoder: msgspec.json.Decoder[Event[Op]] = msgspec.json.Decoder(Event[op_type])
        self._position: Position[State] | None = None
        self._lock = Lock()

    def append(
        self,
        ops: Sequence[Op],
        *,
        actor: str = "",
        expect: Callable[[State], None] | None = None,
        tx: str | None = None,
    ) -> Event[Op]:
        """Commit `ops` as one event. `expect` sees exactly the state they replace and raises to forbid them."""

        def decide(state: State) -> Sequence[Op]:
            if expect is not None:
                expect(state)
            return ops

        event = self.transact(decide, actor=actor, tx=tx)
        assert event is not None, "an append needs at least one op"
        return event

    def transact(
        self, decide: Callable[[State], Sequence[Op]], *, actor: str = "", tx: str | None = None
    ) -> Event[Op] | None:
        """Commit what `decide` returns for exactly the state it saw; nothing when it returns no ops."""
        tx = tx or self.new_tx()
        while True:
            position = self.position()
            ops = tuple(decide(position.state))
            if not ops:
                return None
            event, after, data = self._propose(position, ops, actor, tx)
            if create_surely(self.store, self.slot(event.n), data, sleep=self._sleep):
                self._install(after)
                self._checkpoint(after)
                return event

    def fold(self) -> State:
        """The state after every event committed so far."""
        return self.position().state

    def position(self) -> Position[State]:
        """Strongly fresh: reads the slots after the cached fold until one is absent (warm: one GET)."""
        position = self._position or self._cold()
        while (data := self._read(position.n + 1)) is not None:
            position = self._advance(position, data)
        self._install(position)
        return position

    def events(self) -> Iterator[Event[Op]]:
        """Every event from the first, its place in the hash chain checked."""
        return self.tail(1)

    def tail(self, from_n: int) -> Iterator[Event[Op]]:
        """Events number `from_n` and later."""
        n, head = from_n, GENESIS if from_n == 1 else None
        while (data := self._read(n)) is not None:
            yield self._decode(n, head, data)
            n, head = n + 1, sha256(data)

    def verify(self) -> Position[State]:
        """Fold again from the first event, trusting no cache or checkpoint; Corrupt names the bad object."""
        position = Position(0, GENESIS, self._initial)
        while (data := self._read(position.n + 1)) is not None:
            position = self._advance(position, data)
            if position.n % CHECKPOINT_EVERY == 0:
                saved = self._load(self._checkpoint_key(position.n))
                if saved is not None and saved != position:
                    raise Corrupt(f"{self._checkpoint_key(position.n)} is not the fold of the log")
        return position

    def slot(self, n: int) -> str:
        return f"{self.prefix}/log/{n:020d}.json"

    def new_tx(self) -> str:
        return f"{self._rng.getrandbits(64):016x}"

    def _propose(
        self, position: Position[State], ops: tuple[Op, ...], actor: str, tx: str
    ) -> tuple[Event[Op], Position[State], bytes]:
        event: Event[Op] = Event(n=position.n + 1, prev=position.head, tx=tx, actor=actor, time=self._clock(), ops=ops)
        state = self._apply(position.state, event)
        event = msgspec.structs.replace(event, **self._annotate(state))
        data = canonical(event)
        return event, Position(event.n, sha256(data), state), data

    def _install(self, position: Position[State]) -> None:
        with self._lock:
            if position.n and (self._position is None or position.n > self._position.n):
                self._position = position

    def _read(self, n: int) -> bytes | None:
        try:
            return self.store.get(self.slot(n))
        except NotFound:
            return None

    def _advance(self, position: Position[State], data: bytes) -> Position[State]:
        event = self._decode(position.n + 1, position.head, data)
        return Position(event.n, sha256(data), self._apply(position.state, event))

    def _decode(self, n: int, prev: str | None, data: bytes) -> Event[Op]:
        try:
            event = self._decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Corrupt(f"{self.slot(n)} is not a readable event: {error}") from error
        if event.v > FORMAT:
            raise Corrupt(f"{self.slot(n)} has format {event.v}; this program reads {FORMAT}", hint="update lorimer")
        if event.n != n or (prev is not None and event.prev != prev):
            raise Corrupt(f"{self.slot(n)} breaks the hash chain: an event was altered after it was written")
        return event

    def _checkpoint_key(self, n: int) -> str:
        return f"{self.prefix}/ckpt/{n:020d}.json"

    def _checkpoint(self, position: Position[State]) -> None:
        if position.n % CHECKPOINT_EVERY or self._initial is None:
            return
        saved = Checkpoint(n=position.n, head=position.head, state=position.state)
        with suppress(LorimerError):  # derived data: the log alone is enough
            self.store.create(self._checkpoint_key(position.n), canonical(saved))

    def _load(self, key: str) -> Position[State] | None:
        """A checkpoint, or None where it is missing or unreadable: it is only a short cut."""
        try:
            saved = msgspec.json.decode(self.store.get(key), type=Checkpoint[type(self._initial)])  # type: ignore[misc]
        except (NotFound, msgspec.DecodeError, UnicodeDecodeError):
            return None
        return Position(saved.n, saved.head, saved.state)

    def _cold(self) -> Position[State]:
        start = Position(0, GENESIS, self._initial)
        if self._initial is None:
            return start
        newest = ""
        for newest in self.store.list(f"{self.prefix}/ckpt/"):  # noqa: B007 the last one is wanted
            pass
        return (self._load(newest) if newest else None) or start
