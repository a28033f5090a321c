"""By when a request must be answered: `x-request-timeout` in seconds, counted from its arrival. Knows no engine."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from registry.errors import Invalid
from serving.gateway.errors import DeadlinePassed

T = TypeVar("T")

HEADER = "x-request-timeout"
LONGEST_S = 86_400.0


@dataclass(frozen=True)
class Deadline:
    """`at` is a `time.monotonic` instant."""

    at: float
    timeout_s: float

    def left_s(self) -> float:
        return self.at - time.monotonic()

    async def bound(self, work: Coroutine[Any, Any, T]) -> T:
        """`work`, cancelled when the time is up: DeadlinePassed."""
        limit = asyncio.timeout(self.left_s())
        try:
            async with limit:
                return await work
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise self.passed() from error

    def passed(self) -> DeadlinePassed:
        return DeadlinePassed(f"the request was not answered within the {self.timeout_s:g} s that {HEADER} allows")


def deadline_of(header: str | None, elapsed_s: float) -> Deadline | None:
    """None where there is none; Invalid where the header is no number of seconds."""
    if header is None:
        return None
    try:
        timeout_s = float(header)
    except ValueError:
        timeout_s = math.nan
    if not 0 < timeout_s <= LONGEST_S:
        message = f"{HEADER} takes seconds, more than 0 and at most {LONGEST_S:.0f}, not {header[:40]!r}"
        raise Invalid(message, param=HEADER, code="invalid_value")
    return Deadline(time.monotonic() - elapsed_s + timeout_s, timeout_s)
