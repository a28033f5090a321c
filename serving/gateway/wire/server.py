"""What a gateway says of itself on the wire."""

from __future__ import annotations

from typing import Literal

import msgspec


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """`ok`: the process answers. `ready`: it takes requests."""

    status: Literal["ok", "ready"]


class ServerVersion(msgspec.Struct, frozen=True, kw_only=True):
    """Which program answers, and from which base."""

    version: str
    """Of Lorimer."""
    base: str
    """The base's name."""
    base_weights: str
    """SHA-256 over the base's weights."""
