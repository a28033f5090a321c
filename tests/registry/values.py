"""A log of numbers: the smallest thing that has every property of an adapter's log."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, ClassVar

import msgspec

from registry.canonical import sha256
from registry.log import Event, Log
from registry.store import Store

PREFIX = "t/x/log-of-values"


class Add(msgspec.Struct, frozen=True, tag_field="op", tag="add"):
    FORMAT: ClassVar[int] = 1
    value: int


class Take(msgspec.Struct, frozen=True, tag_field="op", tag="take"):
    FORMAT: ClassVar[int] = 2
    value: int


class Values(msgspec.Struct, frozen=True):
    values: tuple[int, ...] = ()


Op = Add | Take


def fold(state: Values, event: Event[Op]) -> Values:
    for op in event.ops:
        kept = tuple(value for value in state.values if value != op.value)
        state = Values((*state.values, op.value)) if isinstance(op, Add) else Values(kept)
    return state


def open_log(store: Store, clock: Callable[[], float] = lambda: 0.0, **options: Any) -> Log[Op, Values]:
    settings: dict[str, Any] = {"op_type": Op, "initial": Values(), "apply": fold, "sleep": lambda _: None}
    return Log(store, PREFIX, clock, **(settings | {"format_of": lambda op: op.FORMAT} | options))


def write(log: Log[Op, Values], count: int) -> None:
    for value in range(count):
        log.append([Add(value)])


def forged(data: bytes, old: bytes, new: bytes) -> bytes:
    """Altered by somebody who knows how bytes are sealed."""
    assert old in data
    blank = re.sub(rb'"sum":"[0-9a-f]{64}"', b'"sum":""', data.replace(old, new))
    return blank.replace(b'"sum":""', b'"sum":"%s"' % sha256(blank).encode())
