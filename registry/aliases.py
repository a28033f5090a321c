"""How aliases move: what each stands at, one version or several with weights, and where it stood before. Pure.

Knows digests only; whether a digest still lives is asked of whoever calls.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

import msgspec

from registry.log import Event
from registry.ops import MoveAlias, Op

MAX_HISTORY = 512

Targets = Mapping[str, float]
"""Digest -> weight; empty: not set."""


class AliasMove(msgspec.Struct, frozen=True, kw_only=True):
    """`digest` and `previous` are the heaviest targets; `to` holds all of them."""

    n: int
    alias: str
    digest: str | None
    previous: str | None
    time: float
    actor: str
    reason: str
    rollback: bool
    to: dict[str, float] = {}


def heaviest(targets: Targets) -> str | None:
    """The target with the largest weight; of equals, the first digest."""
    return min(targets, key=lambda digest: (-targets[digest], digest), default=None)


def pick(targets: Targets, draw: str) -> str:
    """The target that `draw` falls to: each one's share of all draws is its weight, the same for whoever asks.

    Weighted rendezvous: every target draws an exponential time from its digest and `draw`, as fast as it is heavy, and
    the first to ring is taken. A weight that grows only takes draws over from the others, and gives none up.
    """

    def rings_at(digest: str) -> float:
        weight = targets[digest]
        return -math.log(_uniform(f"{digest}\0{draw}")) / weight if weight > 0 else math.inf

    return min(sorted(targets), key=rings_at)


def _uniform(text: str) -> float:
    """A number in (0, 1) that only the text decides."""
    drawn = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return (int.from_bytes(drawn[:8]) + 0.5) / 2.0**64


def standing(aliases: Mapping[str, str], splits: Mapping[str, Targets], alias: str) -> dict[str, float]:
    """All that an alias stands at now."""
    if alias in splits:
        return dict(splits[alias])
    return {aliases[alias]: 1.0} if alias in aliases else {}


def moved(event: Event[Op], op: MoveAlias, previous: str | None) -> AliasMove:
    """The record of one move."""
    return AliasMove(
        n=event.n,
        alias=op.name,
        digest=heaviest(op.to),
        previous=previous,
        time=event.time,
        actor=event.actor,
        reason=op.reason,
        rollback=op.rollback,
        to=op.to,
    )


def earlier_standings(history: Sequence[AliasMove], alias: str) -> list[dict[str, float]]:
    """Where an alias stood before its present targets were put forward, latest first; a rollback undoes a move."""
    stack: list[dict[str, float]] = []
    for move in history:
        if move.alias != alias:
            continue
        if move.rollback:
            while stack and stack[-1] != move.to:
                stack.pop()
        elif not stack or stack[-1] != move.to:
            stack.append(move.to)
    return stack[-2::-1]


def same(one: Targets, other: Targets) -> bool:
    """Whether two standings give every version the same share."""

    def shares(targets: Targets) -> dict[str, float]:
        return {digest: round(weight / sum(targets.values()), 9) for digest, weight in targets.items()}

    return shares(one) == shares(other)


def in_words(targets: Targets) -> str:
    """The digest, or every digest with its share, or `not set`."""
    if len(targets) == 1:
        return next(iter(targets))
    total = sum(targets.values())
    ordered = sorted(targets.items(), key=lambda each: (-each[1], each[0]))
    return " + ".join(f"{digest} {weight / total:.3g}" for digest, weight in ordered) or "not set"
