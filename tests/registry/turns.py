"""Several actors on one store, one operation at a time, in an order that a seed decides.

Every actor runs in a thread of its own and waits for its turn before each operation; nobody else runs meanwhile. An
operation may get lost, lose its reply, arrive late or twice, or be its actor's last. Knows nothing of registries.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Semaphore, Thread, current_thread
from typing import Any

from registry.store import Uncertain
from tests.registry.stores import MemoryStore, Wrapper

PAGE = 3


class Killed(BaseException):
    """The process of an actor ended here."""


class Turns:
    """`trouble` is how likely an operation meets a fate, `kill` how likely it is the actor's last."""

    def __init__(self, rng: random.Random, *, trouble: float = 0.0, kill: float = 0.0) -> None:
        self.rng = rng
        self.trouble = trouble
        self.kill = kill
        self.failures: list[BaseException] = []
        self.late: list[Callable[[], object]] = []
        self._back = Semaphore(0)
        self._waiting: dict[Thread, Semaphore] = {}

    def run(self, *actors: Callable[[], None], between: Callable[[], None] = lambda: None) -> None:
        """Let all actors end; `between` happens after every operation."""
        for actor in actors:
            thread = Thread(target=self._play, args=(actor,), daemon=True)
            self._waiting[thread] = Semaphore(0)
            thread.start()
            self._back.acquire()
        while self._waiting:
            if self.late and self.rng.random() < 0.1:
                self.late.pop(self.rng.randrange(len(self.late)))()
            self._waiting[self.rng.choice(list(self._waiting))].release()
            self._back.acquire()
            between()
        for arrive in self.late:
            arrive()

    def wait(self) -> None:
        """Called by an actor before each operation."""
        self._back.release()
        self._waiting[current_thread()].acquire()
        if self.rng.random() < self.kill:
            raise Killed

    def _play(self, actor: Callable[[], None]) -> None:
        try:
            self.wait()
            actor()
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001 shown by whoever runs the turns
            self.failures.append(error)
        finally:
            del self._waiting[current_thread()]
            self._back.release()


class TurnStore(Wrapper):
    """A store whose every operation waits for its turn; a listing is read page by page."""

    url = "memory://turns"

    def __init__(self, inner: MemoryStore, turns: Turns) -> None:
        super().__init__(inner)
        self._turns = turns

    def create(self, key: str, data: bytes) -> bool:
        fate = self._fate("lost", "late", "unheard", "again")
        if fate in ("late", "again"):
            self._turns.late.append(lambda: self.inner.create(key, data))
        if fate in ("lost", "late"):
            raise Uncertain(f"{fate}: {key}")
        created = bool(self.inner.create(key, data))
        if fate == "unheard":
            raise Uncertain(f"unheard: {key}")
        return created

    def put(self, key: str, data: bytes) -> None:
        if self._fate("lost") != "lost":
            self.inner.put(key, data)

    def delete(self, key: str) -> None:
        self._turns.wait()
        self.inner.delete(key)

    def get(self, key: str) -> bytes:
        self._turns.wait()
        return self.inner.get(key)

    def exists(self, key: str) -> bool:
        self._turns.wait()
        return self.inner.exists(key)

    def list(self, prefix: str, start_after: str = "") -> Iterator[str]:
        while True:
            self._turns.wait()
            keys = [*self.inner.list(prefix, start_after)][:PAGE]
            yield from keys
            if len(keys) < PAGE:
                return
            start_after = keys[-1]

    def folders(self, prefix: str) -> Iterator[str]:
        seen = ""
        for key in self.list(prefix):
            name = key.removeprefix(prefix).partition("/")[0]
            if name != seen:
                seen = name
                yield name

    def chunks(self, key: str) -> Iterator[bytes]:
        yield self.get(key)

    def fetch(self, key: str, path: Path) -> None:
        raise NotImplementedError("nobody fetches files here")

    def _fate(self, *fates: str) -> Any:
        self._turns.wait()
        return self._turns.rng.choice(fates) if self._turns.rng.random() < self._turns.trouble else "fine"
