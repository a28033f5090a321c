"""A capture as a row that the trainer reads. Knows no file."""

from __future__ import annotations

from typing import Any

from registry.captures.reader import Captured

ROLES = frozenset({"system", "user", "assistant"})


def training_row(captured: Captured) -> dict[str, Any] | None:
    """The corrected answer, or one rated up; None where nobody said what would be right, and for what is no plain chat.

    It names its request, so that it can be found when the person behind it is to be forgotten.
    """
    answer = captured.correction
    if answer is None and captured.rating == 1:
        answer = captured.response
    plain = all(each.get("role") in ROLES and isinstance(each.get("content"), str) for each in captured.messages)
    if not captured.messages or not plain or not (answer or "").strip():
        return None
    return {
        "messages": [*captured.messages, {"role": "assistant", "content": answer}],
        "meta": {"source": "feedback", "request_id": captured.request_id},
    }
