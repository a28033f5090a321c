"""What is kept of a request and of feedback: lines of JSON. Knows no store.

People and sessions stand here under pseudonyms only; see `pseudonyms.py`.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable
from typing import Any

import msgspec

from registry.errors import Corrupt


class CaptureRecord(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="request"):
    """One prompt and what was answered. `messages` is a conversation; a plain completion has `prompt` instead."""

    request_id: str
    time: float
    session: str
    adapter: str
    digest: str
    messages: list[dict[str, Any]] = []
    response: str
    prompt: str | None = None
    others: tuple[str, ...] = ()
    """The second and further answers to the same prompt, where several were asked for."""
    tools: list[dict[str, Any]] = []
    """What the model was told it may call."""
    users: tuple[str, ...] | None = None
    """Who asked, under every name the request gave. None: written before users were kept apart from sessions."""
    asked_at: float = 0.0
    """When the request came; `time` is when the answer was complete."""


class FeedbackRecord(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="feedback"):
    request_id: str
    time: float
    adapter: str
    correction: str | None = None
    rating: int | None = None
    """-1 or 1."""
    users: tuple[str, ...] = ()
    """Who gave it."""


Record = CaptureRecord | FeedbackRecord

_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


def lines_of(records: Iterable[Record]) -> bytes:
    return b"".join(msgspec.json.encode(record) + b"\n" for record in records)


def pack(lines: bytes) -> bytes:
    return gzip.compress(lines, mtime=0)


def unpack(key: str, data: bytes) -> list[Record]:
    """The records of one object; Corrupt names it."""
    try:
        return [_decoder.decode(line) for line in gzip.decompress(data).split(b"\n") if line]
    except (OSError, EOFError, zlib.error, msgspec.DecodeError) as error:
        hint = "restore it from a backup, or delete it: what it holds is lost"
        raise Corrupt(f"{key} is not readable: {error}", hint=hint) from error
