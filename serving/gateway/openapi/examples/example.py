"""What an example of an operation is, and the values that examples share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

BASE = "smollm2-135m"
ADAPTER = "support"
OTHER_ADAPTER = "formal"
DIGEST = "sha256:9f2c1d0e5b7a48c6a3f1e2d4c5b6a79881726354f0e1d2c3b4a5968778695a4b"
WEIGHTS = "1b4f0e9851971998e732078544c96b36c3d01cedf7caa332359d6f1d83567014"
MOMENT = 1790000000


@dataclass(frozen=True)
class Example:
    """One operation: what may be asked, the plainest first, and what is answered."""

    path: Mapping[str, str] = field(default_factory=dict)
    bodies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    answer: Any = None
    stream: str = ""
    """What an answer to `stream: true` looks like."""


def data(*documents: Any) -> str:
    """Server-sent events, as OpenAI writes those of chats and completions."""
    lines = [f"data: {msgspec.json.encode(each).decode()}\n\n" for each in documents]
    return "".join([*lines, "data: [DONE]\n\n"])


def events(*documents: Mapping[str, Any]) -> str:
    """Server-sent events, as OpenAI writes those of responses: named, and with nothing after the last."""
    lines = [f"event: {each['type']}\ndata: {msgspec.json.encode(each).decode()}\n\n" for each in documents]
    return "".join(lines)
