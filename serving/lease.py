"""The right to use an adapter in memory, and the promise of one. Knows nothing of how an adapter gets there."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType

from serving.adapter import LoadedAdapter


@dataclass(eq=False)
class Lease:
    """The adapter stays in memory until released; releasing twice is harmless."""

    adapter: LoadedAdapter
    load_s: float
    _release: Callable[[Lease], None]
    is_open: bool = True

    def release(self) -> None:
        self._release(self)

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def give_up(pending: Future[Lease]) -> None:
    """Whoever waited no longer does: cancel, or release at once what comes nevertheless."""
    if not pending.cancel():
        pending.add_done_callback(_release_unread)


def _release_unread(pending: Future[Lease]) -> None:
    if not pending.cancelled() and pending.exception() is None:
        pending.result().release()
