"""The documents of /api that hold what was captured, and what was taken out again. Knows no HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from registry.captures import Captured
from registry.captures.erasures import Counts
from serving.gateway.wire.api import Reason
from serving.gateway.wire.values import Name


class CaptureList(msgspec.Struct, frozen=True, kw_only=True):
    """What was kept of requests to one adapter, newest first."""

    captures: Sequence[Captured]


class ForgetRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose captures are to go."""

    user: Annotated[str, Meta(min_length=1)]
    """As requests name the user: in `user`, or in `safety_identifier`."""
    reason: Reason = ""
    """Kept with the erasure and in the audit log; do not name the user in it."""


class ExpireRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which captures are too old. Without an adapter, those of all, as their policies say."""

    adapter: Name | None = None
    days: Annotated[float, Meta(ge=0, le=36_500)] | None = None
    """For one adapter, whatever its policy says."""


class ErasureCard(msgspec.Struct, frozen=True, kw_only=True):
    """One demand to forget somebody, who stands here under a pseudonym."""

    erasure: str
    person: str
    time: float
    done: bool
    counts: Counts | None
    """What was taken out; null before it is done."""


class ErasureList(msgspec.Struct, frozen=True, kw_only=True):
    """Who was forgotten, oldest first."""

    erasures: Sequence[ErasureCard]
