"""An append-only, hash-chained log in a store. It serves adapters, jobs and drift episodes alike.

An append folds every earlier event, decides on exactly that state, and creates the next slot if absent. Whoever
creates the slot has committed; everybody else folds the winner's event and decides again. A lost reply is
settled by sending the same bytes to the same slot, so there is no double append and no lost update.
Knows nothing of what the operations mean: `op_type` says how they are written, `apply` how they are folded,
`sign` and `authenticate` whose word they are.

    <prefix>/log/<n:020d>.json     the truth, n = 1, 2, ...
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from threading import Lock
from typing import Any, Generic, TypeVar

import msgspec

from registry.canonical import canonical, sha256
from registry.checkpoints import CHECKPOINT_EVERY, Checkpoints, Position
from registry.errors import Corrupt, Invalid, NotFound, Refused
from registry.memory import Memory
from registry.parallel import at_once
from registry.sealed import is_whole, payload, read_stamp, seal
from registry.store import Store, create_surely

FORMAT = 2
"""The newest event format this program can fold. An event carries the lowest that can fold it."""
SIGNED_FORMAT = 2
GENESIS = "0" * 64
AHEAD = 64
"""Slots asked for at once: what a wrong hint can cost."""
WORTH_THREADS = 8

Op = TypeVar("Op")
State = TypeVar("State")


class Signature(msgspec.Struct, frozen=True):
    """`sig` is base64."""

    keyid: str
    sig: str


class Event(msgspec.Struct, Generic[Op], frozen=True, kw_only=True):
    """One committed step. `prev` is the sha256 of the bytes of event n-1; ops of one event are atomic."""

    v: int = 1
    n: int
    prev: str
    tx: str
    actor: str
    time: float
    ops: tuple[Op, ...]
    aliases: dict[str, dict[str, float]] | msgspec.UnsetType = msgspec.UNSET
    """Adapter logs: the alias map after this event, so that one event answers what was served when."""
    next_version: int | msgspec.UnsetType = msgspec.UNSET
    sig: tuple[Signature, ...] | msgspec.UnsetType = msgspec.UNSET
    signers: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    """Never stored: the keys whose signature this reader verified; unset where it verifies none."""
    sum: str | msgspec.UnsetType = msgspec.UNSET
    """Events without one were written by the first release."""


Sign = Callable[[bytes], tuple[Signature, ...]]
Authenticate = Callable[[bytes, tuple[Signature, ...]], tuple[str, ...]]


class Log(Generic[Op, State]):
    """Safe to share between threads: the cached fold is immutable and only ever moves forward.

    `sign` and `authenticate` are given the canonical event without `sig` and `sum`; `admit` sees the state and the
    event about to replace it, and raises to forbid that. `fold_version` says which
    checkpoints hold what `apply` would give. Without `trust_checkpoints` none is read or written, because
    the state then depends on whom this reader trusts; `memory` is then where a new process begins.
    """

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
        format_of: Callable[[Op], int] = lambda _: 1,
        fold_version: int = 1,
        sign: Sign | None = None,
        authenticate: Authenticate | None = None,
        admit: Callable[[State, Event[Op]], None] = lambda _state, _event: None,
        trust_checkpoints: bool = True,
        memory: Memory[State] | None = None,
        checkpoint_every: int = CHECKPOINT_EVERY,
        rng: random.Random | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.store = store
        self.prefix = prefix.removesuffix("/")
        self._clock = clock
        self._initial = initial
        self._apply = apply
        self._annotate = annotate
        self._format_of = format_of
        self._sign = sign
        self._authenticate = authenticate
        self._admit = admit
        self._memory = memory
        self._sleep = sleep
        self._rng = rng or random.SystemRandom()
        self._decoder: msgspec.json.Decoder[Event[Op]] = msgspec.json.Decoder(Event[op_type])
        self._checkpoints: Checkpoints[State] | None = None
        if initial is not None:
            every = checkpoint_every if trust_checkpoints else 0
            self._checkpoints = Checkpoints(store, self.prefix, type(initial), fold_version, every)
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
                if self._checkpoints is not None:
                    self._checkpoints.save(after)
                return event

    def rehearse(self, decide: Callable[[State], Sequence[Op]], *, actor: str = "") -> Sequence[Op]:
        """What `transact` would commit now; raises as it would. Writes nothing."""
        position = self.position()
        ops = tuple(decide(position.state))
        if ops:
            self._propose(position, ops, actor, self.new_tx())
        return ops

    def fold(self) -> State:
        """The state after every event committed so far."""
        return self.position().state

    def position(self) -> Position[State]:
        """Strongly fresh: reads the slots after the cached fold until one is absent (warm: one GET)."""
        position = self._position or self._cold()
        while (data := self._read(position.n + 1)) is not None:
            _, position = self._advance(position, data)
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
        position = self._start()
        while (data := self._read(position.n + 1)) is not None:
            _, position = self._advance(position, data)
            if self._checkpoints and self._checkpoints.every and position.n % self._checkpoints.every == 0:
                saved = self._checkpoints.at(position.n)
                if saved is not None and saved != position:
                    raise Corrupt(f"{self._checkpoints.key(position.n)} is not the fold of the log")
        if (beyond := next(self.store.list(f"{self.prefix}/log/", self.slot(position.n + 1)), None)) is not None:
            raise Corrupt(f"{self.slot(position.n + 1)} is missing, and yet there is {beyond}")
        return position

    def slot(self, n: int) -> str:
        return f"{self.prefix}/log/{n:020d}.json"

    def new_tx(self) -> str:
        return f"{self._rng.getrandbits(64):016x}"

    def _start(self) -> Position[State]:
        return Position(0, GENESIS, self._initial)

    def _cold(self) -> Position[State]:
        """What this machine remembers, or the newest checkpoint whose event lies in this very log."""
        if self._checkpoints is None:
            return self._start()
        saved, hint = self._checkpoints.newest()
        if self._memory is not None:
            saved = self._memory.resume(self._read)
        elif saved is not None and sha256(self._read(saved.n) or b"") != saved.head:
            saved = None
        return self._ahead(saved or self._start(), hint)

    def _ahead(self, position: Position[State], hint: int) -> Position[State]:
        """Fold as far as the hint says that there are events, asking for many at once."""
        while position.n < hint:
            slots = range(position.n + 1, min(hint, position.n + AHEAD) + 1)
            for data in at_once(self._read, slots) if len(slots) >= WORTH_THREADS else map(self._read, slots):
                if data is None:
                    return position
                _, position = self._advance(position, data)
        return position

    def _propose(
        self, position: Position[State], ops: tuple[Op, ...], actor: str, tx: str
    ) -> tuple[Event[Op], Position[State], bytes]:
        """The next event, admitted. Its notes on the state after it depend on whose signature the fold will see."""
        event: Event[Op] = Event(
            v=max(1 if self._sign is None else SIGNED_FORMAT, *map(self._format_of, ops)),
            n=position.n + 1,
            prev=position.head,
            tx=tx,
            actor=actor,
            time=self._clock(),
            ops=ops,
        )
        signed = self._authenticated(self._signed(event), lambda: canonical(event))
        notes = self._annotate(self._apply(position.state, signed))
        data = seal(self._signed(msgspec.structs.replace(event, **notes)))
        read, after = self._advance(position, data)  # nothing is written that cannot be read
        self._admit(position.state, read)
        return read, after, data

    def _signed(self, event: Event[Op]) -> Event[Op]:
        return event if self._sign is None else msgspec.structs.replace(event, sig=self._sign(canonical(event)))

    def _authenticated(self, event: Event[Op], payload: Callable[[], bytes]) -> Event[Op]:
        """The event with the keys that signed it, in place of whatever it claims about them."""
        signers: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
        if self._authenticate is not None:
            signers = ()
            with suppress(Invalid):  # what has no canonical form was signed by nobody
                signers = self._authenticate(payload(), event.sig) if event.sig else ()
        return msgspec.structs.replace(event, signers=signers)

    def _install(self, position: Position[State]) -> None:
        with self._lock:
            if position.n and (self._position is None or position.n > self._position.n):
                self._position = position
                if self._memory is not None:
                    self._memory.keep(position)

    def _read(self, n: int) -> bytes | None:
        try:
            return self.store.get(self.slot(n))
        except NotFound:
            return None

    def _advance(self, position: Position[State], data: bytes) -> tuple[Event[Op], Position[State]]:
        event = self._decode(position.n + 1, position.head, data)
        return event, Position(event.n, sha256(data), self._apply(position.state, event))

    def _decode(self, n: int, prev: str | None, data: bytes) -> Event[Op]:
        slot = self.slot(n)
        try:
            stamp = read_stamp(data)
            if stamp.sum is not msgspec.UNSET and not is_whole(data, stamp.sum):
                raise Corrupt(f"{slot} is damaged: its bytes do not have the sum it states")
            if stamp.v > FORMAT:
                raise Refused(f"{slot} has format {stamp.v}; this program reads up to {FORMAT}", hint="update lorimer")
            event = self._decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Corrupt(f"{slot} is not a readable event: {error}") from error
        if event.n != n:
            raise Corrupt(f"{slot} holds event {event.n}: it lies in the wrong place")
        if prev is not None and event.prev != prev:
            raise Corrupt(f"{slot} breaks the hash chain: it or {self.slot(n - 1)} was altered after it was written")
        return self._authenticated(event, lambda: payload(data))
