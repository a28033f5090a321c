"""The logs of one tenant's adapters: the one place where they are opened, folded, walked and added to.

Knows whom to trust and whom to tell of a change; what the changes are is for others to decide.
"""

from __future__ import annotations

import getpass
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from threading import Lock

from registry import changes, history
from registry.changes import Change
from registry.errors import Conflict, NotFound
from registry.log import Event, Log
from registry.marker import FORMAT, check_format
from registry.names import check_name
from registry.notices import announced, withdraw
from registry.ops import Op, format_of
from registry.store import Store
from registry.trust import Trust
from registry.versions import FOLD, AdapterState, adapter_prefix, annotate

HEARD_S = 5.0
"""A notice this old is renewed before the commit: who listens does so for a while only."""

MAX_LOGS = 4096
"""Folds kept in memory; those not asked for longest go first."""


class Aborted(Conflict):
    """A collector gave the transaction up before it could commit."""


class Ledger:
    """One store, one tenant, one actor. Safe to share between threads."""

    def __init__(
        self,
        store: Store,
        tenant: str = "default",
        clock: Callable[[], float] = time.time,
        actor: str | None = None,
        *,
        trust: Trust | None = None,
        format: int = FORMAT,
    ) -> None:
        self.store = store
        self.tenant = check_name(tenant, "tenant")
        self.clock = clock
        self.actor = actor if actor is not None else default_actor()
        self.trust = trust or Trust()
        self.format = format
        self._logs: OrderedDict[str, Log[Op, AdapterState]] = OrderedDict()
        self._lock = Lock()

    def adapter_log(self, name: str) -> Log[Op, AdapterState]:
        check_name(name, "adapter")
        with self._lock:
            log = self._logs.get(name) or self._opened(name)
            self._logs[name] = log
            self._logs.move_to_end(name)
            if len(self._logs) > MAX_LOGS:
                self._logs.popitem(last=False)
            return log

    def state(self, name: str, *, at: float | None = None) -> AdapterState:
        """Everything the log says of one adapter, now, or as it said `at` a time."""
        log = self.adapter_log(name)
        state = log.fold()
        if not state.created_at:
            raise self._unknown(name)
        self.trust.check(state)
        if at is not None:
            state = history.state_at(self.walk(name), self._initial(name), at)
        return state

    def log(self, name: str) -> Sequence[Event[Op]]:
        """Every event, oldest first; what broke the rules of its time is among them."""
        if not self.adapter_log(name).fold().created_at:
            raise self._unknown(name)
        return [*self.adapter_log(name).events()]

    def walk(self, name: str) -> Iterator[history.Step]:
        """Every event, oldest first, between the states before and after it."""
        self.state(name)
        return history.steps(self.adapter_log(name).events(), self.trust.judge.fold, self._initial(name))

    def commit(
        self,
        name: str,
        *asked: Change,
        tx: str | None = None,
        announced_at: float = float("-inf"),
        create: bool = False,
    ) -> Event[Op] | None:
        """Append all that the changes ask for as one event; None when they ask for nothing.

        What cannot be decided now is neither announced nor tried. `create`: the adapter need not exist yet.
        """
        log, tx = self.adapter_log(name), tx or self.adapter_log(name).new_tx()

        def decide(state: AdapterState) -> Sequence[Op]:
            if not create and not state.created_at:
                raise self._unknown(name)
            if tx in state.aborted:
                raise Aborted(f"{name}: this took so long that its transaction was given up", hint="run it again")
            return changes.together(asked)(state)

        now = self.clock()
        if now - announced_at < HEARD_S:
            return log.transact(decide, actor=self.actor, tx=tx)
        if not log.rehearse(decide, actor=self.actor):
            return None
        with announced(self.store, self.tenant, name, tx, now) as notice:
            event = log.transact(decide, actor=self.actor, tx=tx)
            if event is None:
                withdraw(self.store, self.tenant, notice)
            return event

    def _opened(self, name: str) -> Log[Op, AdapterState]:
        prefix = adapter_prefix(self.tenant, name)
        return Log(
            self.store,
            prefix,
            self.clock,
            op_type=Op,
            initial=self._initial(name),
            apply=self.trust.judge.fold,
            annotate=annotate,
            format_of=format_of,
            fold_version=FOLD,
            sign=self.trust.sign(prefix),
            authenticate=self.trust.authenticate(prefix),
            admit=self._admit,
            trust_checkpoints=not self.trust.roots,
            memory=self.trust.memory(self.store.url, prefix, AdapterState, FOLD),
        )

    def _initial(self, name: str) -> AdapterState:
        return AdapterState(tenant=self.tenant, adapter=name)

    def _unknown(self, name: str) -> NotFound:
        """Names that do not exist must not fill the memory of a long-lived gateway."""
        with self._lock:
            self._logs.pop(name, None)
        return NotFound(f"no adapter {name!r}", hint="`lorimer registry list` shows what there is")

    def _admit(self, state: AdapterState, event: Event[Op]) -> None:
        check_format(event, self.format)
        self.trust.admit(state, event)


def default_actor() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
