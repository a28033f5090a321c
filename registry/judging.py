"""Does an event break the rules as they stood before it? A pure function that readers and writers share.

An event that does is void: it changes nothing but the count of version numbers, and is recorded as a violation.
Knows keys that signed, never how a signature is verified.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from registry.errors import Invalid
from registry.log import Event
from registry.manifest import digest
from registry.ops import Abort, Delete, MoveAlias, Op, Publish, Quarantine, Review, SetRules
from registry.reviews import verdicts
from registry.rules import SUITE_TAG, AliasRule, Rules, signed_by
from registry.versions import AdapterState, Version, Violation, fold


@dataclass(frozen=True)
class Judge:
    """`roots` own every adapter; without any, a log is open until its first rules."""

    roots: frozenset[str] = frozenset()

    def fold(self, state: AdapterState, event: Event[Op]) -> AdapterState:
        """The state after an event that keeps the rules; else the same state with a violation."""
        if state.rules is None and not any(isinstance(op, SetRules) for op in event.ops):
            return fold(state, event)
        after = state
        for op in event.ops:
            if (breach := self._breach(after, op, event.signers or ())) is not None:
                return _void(state, event, breach)
            after = fold(after, msgspec.structs.replace(event, ops=(op,)))
        return after

    def breach(self, state: AdapterState, event: Event[Op]) -> str | None:
        """The rule that an event would break, in words."""
        after = self.fold(state, event)
        return after.violations[-1].rule if len(after.violations) > len(state.violations) else None

    def _breach(self, state: AdapterState, op: Op, signers: Sequence[str]) -> str | None:
        is_root = any(key in self.roots for key in signers)
        if isinstance(op, SetRules):
            return self._rules_breach(state, op.rules, signers, is_root)
        if state.rules is None:
            return None
        if not is_root and (breach := _right_breach(state.rules, op, signers)) is not None:
            return breach
        match op:
            case Publish() if digest(op.manifest) != op.digest:
                return "the manifest does not have the digest it is published under"
            case Delete() if aliases := state.aliases_of(op.digest):
                return f"{', '.join(aliases)} would point to nothing"
            case MoveAlias():
                return _alias_breach(state, state.rules.alias_rule(op.name), op)
        return None

    def _rules_breach(self, state: AdapterState, new: Rules, signers: Sequence[str], is_root: bool) -> str | None:
        try:
            new.check()
        except Invalid as error:
            return error.message
        if is_root or (state.rules is None and not self.roots):
            return None
        if state.rules is None:
            return f"the first rules must be signed by a trusted root, not by {_in_words(None, signers)}"
        return _owners_breach(state, state.rules, new, signers)


def _owners_breach(state: AdapterState, rules: Rules, new: Rules, signers: Sequence[str]) -> str | None:
    """New rules need enough owners: those who sign, and those who approved these very rules."""
    said = verdicts(state.reviews, new.digest)
    agreed = {*signers, *(key for key, verdict in said.items() if verdict == "approve")}
    owners = set(rules.names_of(agreed)) & set(rules.owners)
    if not set(rules.names_of(signers)) & set(rules.owners):
        return _not_for(rules, "new rules are", rules.owners, signers)
    if len(owners) < rules.owners_needed:
        return f"new rules need {rules.owners_needed} owners to agree; {', '.join(sorted(owners))} did ({new.digest})"
    return None


def _right_breach(rules: Rules, op: Op, signers: Sequence[str]) -> str | None:
    match op:
        case Publish():
            what, allowed = "publishing is", rules.publishers
        case MoveAlias():
            what, allowed = f"moving {op.name} is", rules.alias_rule(op.name).signers
        case Review():
            what, allowed = "reviewing is", rules.reviewers
        case Abort() | Quarantine(lifted=False):
            what, allowed = f"{op.__struct_config__.tag} is", tuple(rules.keys)
        case _:
            what, allowed = f"{op.__struct_config__.tag} is", ()
    everybody = (*allowed, *rules.owners)
    return None if set(rules.names_of(signers)) & set(everybody) else _not_for(rules, what, everybody, signers)


def _alias_breach(state: AdapterState, rule: AliasRule, op: MoveAlias) -> str | None:
    for target in op.to:
        version = state.find(target)
        if version is None:
            return f"{op.name} would point to {target[:19]}, which is no version here"
        if (breach := _version_breach(state, rule, version)) is not None:
            return f"v{version.number} may not be {op.name}: {breach}"
    return None


def _version_breach(state: AdapterState, rule: AliasRule, version: Version) -> str | None:
    assert state.rules is not None, "an alias rule comes from rules"
    said = {
        key: verdict for key, verdict in verdicts(state.reviews, version.digest).items() if key not in version.signers
    }
    reviewers = {*state.rules.reviewers, *state.rules.owners}
    named = {name: said[state.rules.keys[name]] for name in sorted(reviewers) if state.rules.keys[name] in said}
    approved = [name for name, verdict in named.items() if verdict == "approve"]
    rejected = [name for name, verdict in named.items() if verdict == "reject"]
    if rule.reviews and rejected:
        return f"{', '.join(rejected)} rejected it"
    if len(approved) < rule.reviews:
        return f"it has {len(approved)} of {rule.reviews} approvals by others than its publisher"
    for name, rows in rule.suites.items():
        if (found := version.manifest.tags.get(SUITE_TAG + name)) != rows:
            return f"its tag {SUITE_TAG}{name} is {found[:12] if found else 'not set'}, not {rows[:12]}"
    for metric, bound in rule.metrics.items():
        value = version.manifest.metrics.get(metric)
        if value is None or not bound.allows(value):
            return f"{metric} must be {bound}, and is {'not measured' if value is None else f'{value:g}'}"
    return None


def _void(state: AdapterState, event: Event[Op], breach: str) -> AdapterState:
    violation = Violation(n=event.n, tx=event.tx, actor=event.actor, time=event.time, rule=breach)
    spent = sum(isinstance(op, Publish) for op in event.ops)
    return msgspec.structs.replace(
        state,
        violations=(*state.violations, violation),
        next_version=state.next_version + spent,
        created_at=state.created_at or event.time,
    )


def _not_for(rules: Rules, what: str, allowed: Iterable[str], signers: Sequence[str]) -> str:
    names = ", ".join(sorted(set(allowed)))
    return f"{what} for {names}, not for {_in_words(rules, signers)}"


def _in_words(rules: Rules | None, signers: Sequence[str]) -> str:
    return signed_by(rules, signers) or "somebody without a key"
