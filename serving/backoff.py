"""Failures remembered for a while: what failed just now is not tried again at once, ever more slowly. Tries nothing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from registry.errors import LorimerError

FIRST_S = 0.5
LONGEST_S = 60.0
MAX_REMEMBERED = 4096


@dataclass(frozen=True)
class _Failure:
    error: LorimerError
    times: int
    until: float


class Backoff:
    """Failures by key. Not safe for threads: the owner holds its own lock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, _Failure] = OrderedDict()

    def standing(self, key: str) -> LorimerError | None:
        """The latest failure while it is too early to try again."""
        failure = self._failures.get(key)
        return failure.error if failure is not None and self._clock() < failure.until else None

    def failed(self, key: str, error: LorimerError) -> None:
        before = self._failures.pop(key, None)
        times = before.times + 1 if before is not None else 1
        wait_s = min(FIRST_S * 2.0 ** min(times - 1, 16), LONGEST_S)
        self._failures[key] = _Failure(error, times, self._clock() + wait_s)
        while len(self._failures) > MAX_REMEMBERED:
            self._failures.popitem(last=False)

    def succeeded(self, key: str) -> None:
        self._failures.pop(key, None)
