"""From an episode to a retraining: whether to file a job, and which. Pure decisions; files nothing itself.

Retraining needs drift, the owner's policy, enough usable examples, and where the policy asks for them harm or a
person's approval. No session may give more than a few examples: one loud client cannot decide what an adapter learns.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from monitoring.episodes import Episode
from registry.captures import Captured
from registry.policy import Policy

MAX_PER_SESSION = 4
MAX_COOLDOWN_DOUBLINGS = 6
MIN_FEEDBACK = 8
HARM_SHARE = 0.5
"""Answers that were corrected or rated down, of those with any feedback, from which answers count as harmed."""


@dataclass(frozen=True)
class Decision:
    """`reasons` say what still stands against filing, or, when `file`, what speaks for it."""

    file: bool
    reasons: tuple[str, ...]


def decide(policy: Policy, episode: Episode, num_usable_examples: int, *, harmed: bool = False) -> Decision:
    """Whether the episode's retraining may begin now."""
    against = []
    if episode.state != "DRIFT":
        against.append(f"the episode is {episode.state}, not DRIFT")
    if policy.retrain == "off":
        against.append("the policy has retraining off")
    if policy.retrain == "approve" and not episode.approved:
        against.append("a person has to approve it")
    if not policy.capture:
        against.append("capture is off, so there are no new examples")
    if num_usable_examples < policy.min_examples:
        against.append(f"{num_usable_examples} of {policy.min_examples} usable examples")
    if policy.harm_required and not harmed:
        against.append("no sign yet that answers got worse")
    if against:
        return Decision(False, tuple(against))
    return Decision(True, ("drift", f"{num_usable_examples} usable examples", f"policy {policy.retrain}"))


def usable_examples(captures: Sequence[Captured]) -> list[Captured]:
    """Conversations with a correction, each once, at most a few per session; oldest first. A plain prompt is none."""
    taken: Counter[str] = Counter()
    seen: set[bytes] = set()
    usable = []
    for captured in sorted(captures, key=lambda c: (c.time, c.request_id)):
        if not captured.messages or not (captured.correction or "").strip():
            continue
        text, session = msgspec.json.encode(captured.messages), captured.session or captured.request_id
        if text in seen or taken[session] >= MAX_PER_SESSION:
            continue
        seen.add(text)
        taken[session] += 1
        usable.append(captured)
    return usable


def is_harmed(captures: Sequence[Captured]) -> bool:
    """Whether most of the answers that people said anything about were wrong."""
    judged = [c for c in captures if c.rating is not None or c.correction is not None]
    bad = [c for c in judged if c.rating == -1 or (c.correction is not None and c.correction != c.response)]
    return len(judged) >= MIN_FEEDBACK and len(bad) >= HARM_SHARE * len(judged)


def cooldown_s(policy: Policy, rejected_in_row: int) -> float:
    """Doubles with every challenger rejected in a row."""
    return policy.cooldown_s * float(2 ** min(rejected_in_row, MAX_COOLDOWN_DOUBLINGS))


def job_key(adapter: str, digest: str, reference_sha256: str, episode: str) -> str:
    """The same trigger always names the same job, so filing it twice files it once."""
    return hashlib.sha256("\n".join([adapter, digest, reference_sha256, episode]).encode()).hexdigest()


def job_spec(adapter: str, episode: Episode, examples: Sequence[Captured]) -> dict[str, Any]:
    """What the worker needs; `request_ids` are the examples admitted, so that it trains on these and no others."""
    return {
        "kind": "drift-retrain",
        "adapter": adapter,
        "parent": episode.alarm.digest,
        "episode": episode.key,
        "since": episode.alarm.since,
        "examples": len(examples),
        "request_ids": [captured.request_id for captured in examples],
    }
