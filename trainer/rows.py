"""Lines of a JSONL training file, checked one by one: a bad line is named with its file, number and reason.

A line takes one of three forms, and may carry `meta` with a `group` that never straddles a split. An earlier answer
of the assistant with `"weight": 0` is read and not learned. Calls of functions are refused: nothing here renders them.

    {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}
    {"prompt": "...", "completion": "..."}
    {"text": "...", "label": "sports"}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from registry.errors import Invalid, NotFound

ROLES = ("system", "user", "assistant")
CALLS = ("tools", "functions"), ("tool_calls", "function_call")
"""What a row, and what a message, may not hold."""


@dataclass(frozen=True)
class Message:
    role: str
    content: str
    weight: int = 1
    """0: an answer that is not learned."""


@dataclass(frozen=True)
class Row:
    """A checked line. Of `messages` and `text` exactly one is set."""

    where: str
    messages: tuple[Message, ...] = ()
    text: str = ""
    label: str | None = None
    split: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)


def read_rows(path: Path) -> list[Row]:
    """Every line of a JSONL file, checked; a bad line is Invalid and names file, line and reason."""
    rows: list[Row] = []
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    rows.append(_row(line, f"{path}:{number}"))
    except FileNotFoundError as error:
        raise NotFound(f"data file {path} does not exist") from error
    except OSError as error:
        raise Invalid(f"data file {path} cannot be read: {error.strerror}") from error
    if not rows:
        raise Invalid(f"data file {path} holds no rows")
    return rows


def _row(line: bytes, where: str) -> Row:
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"{where}: not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise Invalid(f"{where}: a row is a JSON object, not {type(value).__name__}")
    _refuse_calls(value, CALLS[0], f"{where}: ")
    meta, split, label = value.get("meta", {}), value.get("split", ""), value.get("label")
    if not isinstance(meta, dict) or not isinstance(split, str):
        raise Invalid(f"{where}: meta is an object and split a string")
    if label is not None and not (isinstance(label, str) and label.strip()):
        raise Invalid(f"{where}: label must be a non-empty string")
    if "messages" in value:
        return Row(where, _messages(value["messages"], where), label=label, split=split, meta=meta)
    if "prompt" in value:
        pair = (Message("user", _text(value, "prompt", where)), Message("assistant", _text(value, "completion", where)))
        return Row(where, pair, label=label, split=split, meta=meta)
    if "text" in value and label is not None:
        return Row(where, text=_text(value, "text", where), label=label, split=split, meta=meta)
    raise Invalid(f"{where}: needs messages, prompt + completion or text + label; found {', '.join(value)}")


def _text(value: Mapping[str, Any], name: str, where: str) -> str:
    text = value.get(name)
    if not isinstance(text, str) or not text.strip():
        raise Invalid(f"{where}: {name} must be a non-empty string")
    return text


def _messages(value: object, where: str) -> tuple[Message, ...]:
    if not isinstance(value, list) or len(value) < 2:
        raise Invalid(f"{where}: messages must be a list of at least two")
    messages: list[Message] = []
    for i, item in enumerate(value):
        if not isinstance(item, dict) or item.get("role") not in ROLES:
            raise Invalid(f"{where}: messages[{i}].role is none of {', '.join(ROLES)}")
        place = f"{where}: messages[{i}]"
        _refuse_calls(item, CALLS[1], f"{place}.")
        if (weight := item.get("weight", 1)) not in (0, 1):
            raise Invalid(f"{place}.weight is neither 0 nor 1")
        messages.append(Message(item["role"], _text(item, "content", place), int(weight)))
    if messages[-1].role != "assistant":
        raise Invalid(f"{where}: the last message must be the assistant's answer, not the {messages[-1].role}'s")
    if not messages[-1].weight:
        raise Invalid(f"{where}: the last answer has weight 0", hint="end the row with the last answer to learn")
    return tuple(messages)


def _refuse_calls(value: Mapping[str, Any], names: Sequence[str], before: str) -> None:
    if (found := next((name for name in names if value.get(name)), None)) is not None:
        raise Invalid(f"{before}{found} cannot be trained on", hint="leave rows with calls of functions out")
