"""The documents of /api that hold what the registry and the engine know. Knows no HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from registry.audit import Record
from registry.jobs import Job
from registry.log import Event
from registry.ops import Op
from registry.summary import AdapterSummary
from serving.quarantine import Case

Reason = Annotated[str, Meta(max_length=1000)]
Shares = Annotated[dict[str, float], Meta(min_length=1, max_length=64)]
"""Version -> weight."""


class AliasRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where an alias is to point: a version, a digest or another alias; or to several versions, by weight."""

    to: str | Shares
    expect: str | Shares | UnsetType | None = UNSET
    """What the alias must hold now, or null for not set; without it, whatever it holds."""
    reason: Reason = ""
    """Kept in the adapter's log."""


class RollbackRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """That an alias is to stand where it stood before."""

    expect: str | Shares | UnsetType | None = UNSET
    """What the alias must hold now: with it, a rollback in doubt can be repeated."""
    reason: Reason = ""
    """Kept in the adapter's log."""


class RolledBack(msgspec.Struct, frozen=True, kw_only=True):
    """Where an alias stands after a rollback."""

    adapter: str
    alias: str
    version: int
    digest: str


class AdapterList(msgspec.Struct, frozen=True, kw_only=True):
    """Every adapter of the tenant, in a line each."""

    adapters: Sequence[AdapterSummary]


class EventList(msgspec.Struct, frozen=True, kw_only=True):
    """What ever changed an adapter, oldest first."""

    events: Sequence[Event[Op]]


class DriftList(msgspec.Struct, frozen=True, kw_only=True):
    """The state of every adapter's watch."""

    adapters: Sequence[Mapping[str, Any]]


class JobList(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs of every kind, oldest first."""

    jobs: Sequence[Job]


class CaseList(msgspec.Struct, frozen=True, kw_only=True):
    """Versions that misbehaved while serving."""

    quarantined: Sequence[Case]


class AuditTrail(msgspec.Struct, frozen=True, kw_only=True):
    """What was changed through the gateway, newest first."""

    records: Sequence[Record]
