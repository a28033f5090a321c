"""The operations an adapter's log is made of: the words of its history. How they fold is elsewhere.

`FORMAT` is the lowest event format whose readers understand an op; an event carries the highest of its ops.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import msgspec

from registry.manifest import Manifest
from registry.rules import Rules


class Publish(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="publish"):
    """A new version. Its blobs lie at `blobs/<sha256>.<loc[sha256]>`."""

    FORMAT: ClassVar[int] = 1
    digest: str
    manifest: Manifest
    loc: dict[str, str]


class MoveAlias(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="alias", omit_defaults=True):
    """`to` maps digests to traffic weights; empty removes the alias. `expect` records what the writer replaced."""

    FORMAT: ClassVar[int] = 1
    name: str
    to: dict[str, float]
    expect: str | dict[str, float] | None = None
    reason: str = ""
    rollback: bool = False


class Delete(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="delete"):
    FORMAT: ClassVar[int] = 1
    digest: str
    reason: str = ""


class SetPolicy(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="policy"):
    FORMAT: ClassVar[int] = 1
    policy: dict[str, Any]


class SetRules(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="rules"):
    FORMAT: ClassVar[int] = 2
    rules: Rules


class Abort(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="abort", omit_defaults=True):
    """Whoever holds `tx` may not commit with it any more, and nobody may use what it uploaded: it can be deleted."""

    FORMAT: ClassVar[int] = 2
    tx: str
    reason: str = ""


class Quarantine(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="quarantine", omit_defaults=True):
    """Serve this version to nobody who does not name its bytes, until `lifted`."""

    FORMAT: ClassVar[int] = 2
    digest: str
    reason: str = ""
    lifted: bool = False


class Review(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="review", omit_defaults=True):
    FORMAT: ClassVar[int] = 2
    digest: str
    verdict: Literal["approve", "reject"]
    note: str = ""


class Grant(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="grant", omit_defaults=True):
    """Another tenant may read what `selector` means (`prod`, `v3`, `*`), until `revoked`."""

    FORMAT: ClassVar[int] = 2
    tenant: str
    selector: str
    revoked: bool = False


Op = Publish | MoveAlias | Delete | SetPolicy | SetRules | Abort | Quarantine | Review | Grant


def format_of(op: Op) -> int:
    """The lowest format whose readers fold `op` rightly."""
    if isinstance(op, MoveAlias) and (len(op.to) > 1 or isinstance(op.expect, dict)):
        return 2
    return op.FORMAT


def describe(ops: Sequence[Op]) -> str:
    """One line for people: what an event did."""
    return "; ".join(_describe(op) for op in ops)


def _describe(op: Op) -> str:
    match op:
        case Publish():
            return f"publish {_short(op.digest)}"
        case MoveAlias():
            return f"{'roll back' if op.rollback else 'alias'} {op.name} -> {_targets(op.to)}{_why(op.reason)}"
        case Delete():
            return f"delete {_short(op.digest)}{_why(op.reason)}"
        case SetPolicy():
            return f"policy {', '.join(f'{key}={value}' for key, value in op.policy.items())}"
        case SetRules():
            return f"rules {_short(op.rules.digest)} of {', '.join(op.rules.owners)}"
        case Abort():
            return f"abort {op.tx}{_why(op.reason)}"
        case Quarantine():
            return f"{'release' if op.lifted else 'quarantine'} {_short(op.digest)}{_why(op.reason)}"
        case Review():
            return f"{op.verdict} {_short(op.digest)}{_why(op.note)}"
        case Grant():
            return f"{'revoke' if op.revoked else 'grant'} {op.selector} {'from' if op.revoked else 'to'} {op.tenant}"


def _targets(to: dict[str, float]) -> str:
    if len(to) == 1:
        return _short(next(iter(to)))
    shares = (f"{_short(digest)} {weight:.4g}" for digest, weight in sorted(to.items(), key=lambda each: -each[1]))
    return " + ".join(shares) or "nothing"


def _short(digest: str) -> str:
    return digest[:19]


def _why(reason: str) -> str:
    return f" ({reason})" if reason else ""
