"""What capture keeps of a question: one conversation, or each of several prompts. Knows no answer and no store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Kept:
    """A conversation and the tools it could call, or a text to be continued."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    prompt: str | None = None
    tools: list[dict[str, Any]] = field(default_factory=list)
