"""What capture keeps of a question: one conversation, or each of several prompts. Knows no answer and no store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Kept:
    """A conversation and the tools it could call, or a text to be continued."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    prompt: str | None = None
    tools: list[dict[str, Any]] = field(default_factory=list)


class Signed(Protocol):
    """A body that says on whose behalf it comes."""

    @property
    def user(self) -> str | None: ...
    @property
    def safety_identifier(self) -> str | None: ...


def people_of(body: Signed) -> tuple[str, ...]:
    """Every name that the body gives to whoever is behind it, `user` first."""
    return tuple(dict.fromkeys(name for name in (body.user, body.safety_identifier) if name))
