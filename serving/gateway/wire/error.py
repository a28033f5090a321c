"""What went wrong, on the wire: OpenAI's document under /v1, an RFC 9457 problem elsewhere."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType


class ErrorDetail(msgspec.Struct, frozen=True, kw_only=True):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorEnvelope(msgspec.Struct, frozen=True, kw_only=True):
    error: ErrorDetail


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """An error outside /v1, as RFC 9457 has it."""

    type: str = "about:blank"
    title: str
    """The status in words."""
    status: int
    detail: str
    """What was wrong, where, and what to do."""
    kind: str | UnsetType = UNSET
    """What sort of error it is, as the command line has it too."""
    param: str | UnsetType = UNSET
    """The field that is wrong."""
    actual: Any = UNSET
    """What was found instead of what was expected."""
