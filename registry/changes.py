"""What may be asked of an adapter: each change decides its operations on exactly the state that they will replace.

Several changes make one event; each sees what those before it did. Refuses what would break the adapter; what its
policy allows is judged elsewhere. Writes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from registry.errors import Invalid, Refused
from registry.names import check_alias, parse_selector
from registry.ops import Abort, Delete, MoveAlias, Op, Quarantine, SetPolicy
from registry.retention import Retention
from registry.versions import AdapterState, Expected, Version, after

STAYS = frozenset({"retention", "capture_days", "redact"})
"""What a policy that does not name it leaves as it was decided before: nobody who publishes anew switches it off."""

Change = Callable[[AdapterState], Sequence[Op]]
Target = str | Version | None
Targets = Target | Mapping[str, float]
"""A version (`v2`, a digest, another alias), several with weights, or nothing."""


def together(changes: Sequence[Change]) -> Change:
    """One change of many."""

    def decide(state: AdapterState) -> list[Op]:
        ops: list[Op] = []
        for change in changes:
            decided = change(state)
            state = after(state, decided)
            ops += decided
        return ops

    return decide


def move(alias: str, to: Targets, *, expect: Expected = msgspec.UNSET, reason: str = "") -> Change:
    """Point `alias` to a version, to several by weight, or to nothing. `expect` compares and swaps."""
    check_alias(alias)

    def decide(state: AdapterState) -> list[Op]:
        state.check_alias(alias, expect)
        targets = _targets(state, to)
        for digest in targets:
            if digest in state.quarantined:
                raise Refused(
                    f"{_name(state, digest)} is quarantined: {state.quarantined[digest] or 'no reason given'}",
                    hint="`lorimer registry quarantine --lift` releases it",
                )
        return [MoveAlias(name=alias, to=targets, expect=_recorded(state, alias), reason=reason)]

    return decide


def roll_back(alias: str, *, expect: Expected = msgspec.UNSET, reason: str = "") -> Change:
    """Put `alias` back to where it stood before. `expect`: only if it stands there now."""

    def decide(state: AdapterState) -> list[Op]:
        state.check_alias(alias, expect)
        targets = state.rollback_targets(alias)
        return [MoveAlias(name=alias, to=targets, expect=_recorded(state, alias), reason=reason, rollback=True)]

    return decide


def retire(version: Target, *, reason: str = "") -> Change:
    """Delete a version; Refused while an alias stands at it or another version names it as parent."""

    def decide(state: AdapterState) -> list[Op]:
        found = find(state, version)
        if held := state.aliases_of(found.digest):
            raise Refused(f"{found.name} is aliased {', '.join(held)}", hint="move or remove the alias first")
        if children := state.children_of(found.digest):
            raise Refused(f"{found.name} is the parent of {children[0].name}", hint="delete that one first")
        return [Delete(digest=found.digest, reason=reason)]

    return decide


def quarantine(version: Target, *, reason: str, lift: bool = False) -> Change:
    """Serve a version to nobody who does not name its digest; or, with `lift`, to everybody again."""

    def decide(state: AdapterState) -> list[Op]:
        digest = find(state, version).digest
        if lift != (digest in state.quarantined):
            return []
        return [Quarantine(digest=digest, reason=reason, lifted=lift)]

    return decide


def abort(txs: Iterable[str], *, reason: str = "") -> Change:
    """Forbid transactions to commit from now on, or to lend their blobs to a new version."""
    return lambda state: [Abort(tx=tx, reason=reason) for tx in txs if tx not in state.aborted]


def set_policy(values: Mapping[str, Any]) -> Change:
    """Replace the policy, but for what stays where it says nothing of it."""

    def decide(state: AdapterState) -> list[Op]:
        kept = {name: value for name, value in state.policy.items() if name in STAYS}
        policy = {**kept, **{name: value for name, value in values.items() if value is not None}}
        return [] if state.policy == policy else [SetPolicy(policy=policy)]

    return decide


def set_retention(retention: Retention) -> Change:
    """Replace the part of the policy that says which versions are kept."""
    return lambda state: [SetPolicy(policy={**state.policy, "retention": msgspec.to_builtins(retention)})]


def find(state: AdapterState, target: Target) -> Version:
    """The live version that a caller means."""
    if target is None:
        raise Invalid(f"{state.adapter}: name a version")
    return state.select(parse_selector(target.digest if isinstance(target, Version) else target))


def _targets(state: AdapterState, to: Targets) -> dict[str, float]:
    """Digests with weights that add up to one."""
    if to is None:
        return {}
    if not isinstance(to, Mapping):
        return {find(state, to).digest: 1.0}
    if not all(math.isfinite(weight) and weight > 0 for weight in to.values()):
        raise Invalid("weights must be numbers above 0", hint="leave out a version that gets none", param="weight")
    total = math.fsum(to.values())
    targets = {find(state, each).digest: weight / total for each, weight in to.items()}
    if len(targets) < len(to):
        raise Invalid(f"two of {', '.join(to)} are the same version of {state.adapter}", param="target")
    return dict.fromkeys(targets, 1.0) if len(targets) == 1 else targets


def _recorded(state: AdapterState, alias: str) -> str | dict[str, float] | None:
    standing = state.standing(alias)
    return standing if len(standing) > 1 else next(iter(standing), None)


def _name(state: AdapterState, digest: str) -> str:
    return find(state, digest).name
