"""What people say about versions and rules: reviews, new rules, and an owner's agreement to rules another will set."""

from __future__ import annotations

from typing import Literal

from registry import changes
from registry.changes import Change, Target
from registry.ops import Op, Review, SetRules
from registry.rules import Rules
from registry.versions import AdapterState


def review(version: Target, verdict: Literal["approve", "reject"], note: str = "") -> Change:
    """Say of a version that it may be used, or may not; the last word of each key counts."""

    def decide(state: AdapterState) -> list[Op]:
        return [Review(digest=changes.find(state, version).digest, verdict=verdict, note=note)]

    return decide


def agree(rules: Rules, note: str = "") -> Change:
    """Approve exactly these rules, which another owner will set."""
    rules.check()
    return lambda _: [Review(digest=rules.digest, verdict="approve", note=note)]


def set_rules(rules: Rules) -> Change:
    """Nothing to do where they are in force."""
    rules.check()
    return lambda state: [] if state.rules == rules else [SetRules(rules=rules)]
