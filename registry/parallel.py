"""The same question to a store many times at once: replies take long, asking does not. Knows no store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

THREADS = 16

Item = TypeVar("Item")
Result = TypeVar("Result")


def at_once(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`map`, in order, from several threads. The first error is raised once everything begun has ended."""
    listed = list(items)
    if len(listed) <= 1 or THREADS == 1:
        yield from map(function, listed)
        return
    with ThreadPoolExecutor(min(THREADS, len(listed))) as pool:
        yield from pool.map(function, listed)
