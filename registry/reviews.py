"""What reviewers said of a version, as the log holds it. Decides nothing: a policy says whose word counts."""

from __future__ import annotations

from typing import Literal

import msgspec

from registry.log import Event
from registry.ops import Op, Review


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    n: int
    verdict: Literal["approve", "reject"]
    actor: str
    time: float
    note: str = ""
    signers: tuple[str, ...] = ()
    """The keys that signed it."""


Reviews = dict[str, tuple[Verdict, ...]]
"""Digest -> what was said of it, oldest first."""


def fold_review(reviews: Reviews, event: Event[Op], op: Review) -> Reviews:
    said = Verdict(
        n=event.n, verdict=op.verdict, actor=event.actor, time=event.time, note=op.note, signers=event.signers or ()
    )
    return {**reviews, op.digest: (*reviews.get(op.digest, ()), said)}


def verdicts(reviews: Reviews, digest: str) -> dict[str, Literal["approve", "reject"]]:
    """What each key said last."""
    return {key: said.verdict for said in reviews.get(digest, ()) for key in said.signers}
