"""Drift episodes of one adapter, from alarm to resolution, as a log in the bucket: `t/<tenant>/monitor/<adapter>/log`.

    OK -> WATCH -> DRIFT -> RETRAINING -> PROMOTED | REJECTED -> COOLDOWN -> OK

WATCH is layer A's and lives only in the detector's state; an episode begins with DRIFT. Knows which step may follow
which; decides none. Opening is idempotent: a fold repeated after a crash finds its alarm already on record.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Literal

import msgspec

from monitoring.attribution import Attribution
from monitoring.detector import Alarm
from registry.errors import Conflict
from registry.log import Event, Log
from registry.store import Store

State = Literal["OK", "WATCH", "DRIFT", "RETRAINING", "PROMOTED", "REJECTED", "COOLDOWN"]
STATES: tuple[State, ...] = ("OK", "WATCH", "DRIFT", "RETRAINING", "PROMOTED", "REJECTED", "COOLDOWN")
FOLLOWS: dict[State, tuple[State, ...]] = {
    "OK": ("WATCH", "DRIFT"),
    "WATCH": ("OK", "DRIFT"),
    "DRIFT": ("RETRAINING", "OK"),
    "RETRAINING": ("PROMOTED", "REJECTED"),
    "PROMOTED": ("COOLDOWN",),
    "REJECTED": ("COOLDOWN",),
    "COOLDOWN": ("OK",),
}
MAX_PAST = 32


class Open(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="open"):
    """`cause` is the observation object whose folding raised the alarm."""

    episode: str
    cause: str
    alarm: Alarm
    attribution: Attribution


class Move(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="move", omit_defaults=True):
    """`through` is the newest observation object folded by then: alarms up to it are old news."""

    episode: str
    to: State
    reason: str
    through: str = ""
    job: str | None = None
    digest: str | None = None
    cooldown_s: float = 0.0


class Approve(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="approve"):
    episode: str


Op = Open | Move | Approve


class Episode(msgspec.Struct, frozen=True, kw_only=True):
    key: str
    state: State
    alarm: Alarm
    attribution: Attribution
    opened_at: float
    updated_at: float
    reason: str = ""
    approved: bool = False
    job: str | None = None
    outcome: str | None = None
    promoted: str | None = None
    """Digest of the version that won."""
    cooldown_until: float = 0.0


class History(msgspec.Struct, frozen=True, kw_only=True):
    """The fold: the episode going on, if any, and what came before."""

    adapter: str
    current: Episode | None = None
    past: tuple[Episode, ...] = ()
    num_opened: int = 0
    outcomes: dict[str, int] = {}
    rejected_in_row: int = 0
    through: str = ""

    @property
    def state(self) -> State:
        return self.current.state if self.current else "OK"


class EpisodeLog:
    """Safe with several writers: every step is decided on exactly the state it replaces."""

    def __init__(
        self, store: Store, tenant: str, adapter: str, clock: Callable[[], float] = time.time, actor: str = "monitor"
    ) -> None:
        self._actor = actor
        self._adapter = adapter
        prefix = f"t/{tenant}/monitor/{adapter}"
        self._log: Log[Op, History] = Log(
            store, prefix, clock, op_type=Op, initial=History(adapter=adapter), apply=fold
        )

    def fold(self) -> History:
        return self._log.fold()

    def open(self, alarm: Alarm, attribution: Attribution, cause: str) -> Episode | None:
        """Begin an episode; None while one goes on or when this alarm is on record already."""

        def decide(history: History) -> list[Op]:
            if history.current is not None or cause <= history.through:
                return []
            key = episode_key(self._adapter, alarm.digest, cause, history.num_opened + 1)
            return [Open(episode=key, cause=cause, alarm=alarm, attribution=attribution)]

        event = self._log.transact(decide, actor=self._actor)
        return self._log.fold().current if event else None

    def move(
        self,
        episode: str,
        *path: State,
        reason: str,
        through: str = "",
        job: str | None = None,
        digest: str | None = None,
        cooldown_s: float = 0.0,
    ) -> History:
        """Take one step, or several at once; Conflict when the episode is not where the first step starts."""

        def decide(history: History) -> list[Op]:
            current = history.current
            if current is None or current.key != episode:
                raise Conflict(f"episode {episode} of {self._adapter} is not going on", actual=history.state)
            state, ops = current.state, []
            for to in path:
                if to not in FOLLOWS[state]:
                    raise Conflict(f"{self._adapter} cannot go from {state} to {to}", actual=history.state)
                state = to
                ops.append(
                    Move(
                        episode=episode,
                        to=to,
                        reason=reason,
                        through=through,
                        job=job,
                        digest=digest,
                        cooldown_s=cooldown_s,
                    )
                )
            return list(ops)

        self._log.transact(decide, actor=self._actor)
        return self._log.fold()

    def approve(self, actor: str) -> Episode:
        """A person lets the retraining of the episode going on begin; Conflict when there is none to approve."""

        def decide(history: History) -> list[Op]:
            if history.current is None or history.current.state != "DRIFT":
                raise Conflict(f"{self._adapter} has no drift to approve: it is {history.state}", actual=history.state)
            return [Approve(episode=history.current.key)]

        self._log.transact(decide, actor=actor)
        current = self._log.fold().current
        assert current is not None, "approving ends no episode"
        return current


def episode_key(adapter: str, digest: str, cause: str, number: int) -> str:
    """Derived, so that a repeated fold names the same episode alike."""
    return hashlib.sha256("\n".join([adapter, digest, cause, str(number)]).encode()).hexdigest()[:20]


def fold(history: History, event: Event[Op]) -> History:
    for op in event.ops:
        history = _apply(history, event.time, op)
    return history


def _apply(history: History, now: float, op: Op) -> History:
    replace = msgspec.structs.replace
    match op:
        case Open():
            opened = Episode(
                key=op.episode,
                state="DRIFT",
                alarm=op.alarm,
                attribution=op.attribution,
                opened_at=now,
                updated_at=now,
            )
            return replace(history, current=opened, num_opened=history.num_opened + 1, through=op.cause)
        case Approve():
            assert history.current is not None, "only an episode going on is approved"
            return replace(history, current=replace(history.current, approved=True, updated_at=now))
        case Move():
            return _moved(history, now, op)


def _moved(history: History, now: float, op: Move) -> History:
    replace = msgspec.structs.replace
    assert history.current is not None, "only an episode going on moves"
    episode = replace(
        history.current,
        state=op.to,
        reason=op.reason,
        updated_at=now,
        job=op.job or history.current.job,
        promoted=op.digest or history.current.promoted,
        outcome=op.to.lower() if op.to in ("PROMOTED", "REJECTED") else history.current.outcome,
        cooldown_until=now + op.cooldown_s if op.to == "COOLDOWN" else history.current.cooldown_until,
    )
    through = max(history.through, op.through)
    if op.to == "OK":
        return replace(history, current=None, past=(*history.past, episode)[-MAX_PAST:], through=through)
    if op.to in ("PROMOTED", "REJECTED"):
        outcome = op.to.lower()
        counted = history.outcomes | {outcome: history.outcomes.get(outcome, 0) + 1}
        streak = history.rejected_in_row + 1 if op.to == "REJECTED" else 0
        history = replace(history, outcomes=counted, rejected_in_row=streak)
    return replace(history, current=episode, through=through)
