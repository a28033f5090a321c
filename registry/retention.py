"""Which versions an adapter's owner wants kept, and so which may go. Pure: deletes nothing.

A version stays if any rule keeps it. Whatever the rules say, a version stays that an alias stands at, that a rollback
would return to, that a kept version was made from, or that is quarantined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

import msgspec

from registry.aliases import MAX_HISTORY
from registry.errors import Invalid, NotFound
from registry.ops import Delete, Op
from registry.versions import AdapterState, Version

DAY_S = 86_400.0
Days = Annotated[float, msgspec.Meta(ge=0, le=36_500)]


class Retention(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Without a rule, everything is kept."""

    keep_last: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """This many of the newest versions."""
    keep_days: Days | None = None
    """Versions published within so many days."""
    keep_aliased_days: Days | None = None
    """Versions that an alias stood at within so many days."""

    def __bool__(self) -> bool:
        return self != Retention()

    def __str__(self) -> str:
        rules = msgspec.to_builtins(self)
        return ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in rules.items()) or "keep all"


def read_retention(policy: Mapping[str, Any]) -> Retention:
    """The part of an adapter's policy that says what to keep."""
    try:
        return msgspec.convert(policy.get("retention") or {}, Retention)
    except msgspec.ValidationError as error:
        raise Invalid(f"bad policy: {error} (retention)", param="policy") from error


def expired(state: AdapterState, retention: Retention, now: float) -> list[Version]:
    """Versions that nothing keeps, oldest first."""
    return [version for version in state.versions if version.digest not in reasons(state, retention, now)]


def expire(now: float) -> Callable[[AdapterState], list[Op]]:
    """The change that deletes, in one event, what the policy of exactly that moment lets go."""

    def decide(state: AdapterState) -> list[Op]:
        retention = read_retention(state.policy)
        return [Delete(digest=each.digest, reason=f"retention: {retention}") for each in expired(state, retention, now)]

    return decide


def reasons(state: AdapterState, retention: Retention, now: float) -> dict[str, str]:
    """Why each version that stays does: digest -> the first rule that keeps it."""
    kept: dict[str, str] = {}
    for digest, why in _kept(state, retention, now):
        kept.setdefault(digest, why)
    pending = list(kept)
    while pending:  # what a kept version was made from is kept, and so on
        parent = (version := state.find(pending.pop())) and version.manifest.parent
        if version is not None and parent and parent.digest not in kept and state.find(parent.digest):
            kept[parent.digest] = f"{version.name} was made from it"
            pending.append(parent.digest)
    return kept


def _kept(state: AdapterState, retention: Retention, now: float) -> Iterator[tuple[str, str]]:
    for version in state.versions:
        if not retention:
            yield version.digest, "keep all"
        if held := state.aliases_of(version.digest):
            yield version.digest, f"it is {', '.join(held)}"
        if version.digest in state.quarantined:
            yield version.digest, "it is quarantined"
        if retention.keep_days is not None and now - version.published_at < retention.keep_days * DAY_S:
            yield version.digest, f"keep days {retention.keep_days:g}"
    for version in state.versions[-(retention.keep_last or 0) :] if retention.keep_last else ():
        yield version.digest, f"keep last {retention.keep_last}"
    for alias in state.aliases:
        try:
            yield from ((digest, f"{alias} would roll back to it") for digest in state.rollback_targets(alias))
        except NotFound:
            continue
    if retention.keep_aliased_days is not None:
        yield from _lately_aliased(state, retention.keep_aliased_days, now)


def _lately_aliased(state: AdapterState, days: float, now: float) -> Iterator[tuple[str, str]]:
    horizon = now - days * DAY_S
    history = state.alias_history
    if len(history) == MAX_HISTORY and history[0].time > horizon:  # earlier moves fall into these days too
        yield from ((version.digest, "its aliases moved too often to tell") for version in state.versions)
    left: dict[str, Mapping[str, float]] = {}
    for move in history:
        if move.time > horizon:
            yield from ((digest, f"it was {move.alias} within {days:g} days") for digest in left.get(move.alias, {}))
        left[move.alias] = move.to
