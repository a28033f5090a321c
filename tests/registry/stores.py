"""Stores for tests: in memory, and wrappers that lose replies, race, ignore conditions or kill the process."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Lock
from typing import Any

from registry.errors import NotFound, Unavailable
from registry.store import Store, Uncertain, check_key, check_prefix, write_atomically


class MemoryStore:
    """A correct store in a dictionary."""

    url = "memory://test"

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}
        self.num_gets = 0
        self._lock = Lock()

    def create(self, key: str, data: bytes) -> bool:
        with self._lock:
            if check_key(key) in self.data:
                return False
            self.data[key] = data
            return True

    def create_file(self, key: str, path: Path) -> bool:
        return self.create(key, path.read_bytes())

    def put(self, key: str, data: bytes) -> None:
        self.data[check_key(key)] = data

    def get(self, key: str) -> bytes:
        self.num_gets += 1
        try:
            return self.data[check_key(key)]
        except KeyError:
            raise NotFound(key) from None

    def chunks(self, key: str) -> Iterator[bytes]:
        yield self.get(key)

    def fetch(self, key: str, path: Path) -> None:
        write_atomically(path, self.chunks(key))

    def exists(self, key: str) -> bool:
        return key in self.data

    def list(self, prefix: str, start_after: str = "") -> Iterator[str]:
        check_prefix(prefix)
        yield from sorted(key for key in list(self.data) if key.startswith(prefix) and key > start_after)

    def folders(self, prefix: str) -> Iterator[str]:
        names = [key.removeprefix(prefix).split("/") for key in self.list(prefix)]
        yield from sorted({parts[0] for parts in names if len(parts) > 1})

    def delete(self, key: str) -> None:
        self.data.pop(key, None)


class Wrapper:
    """Everything goes to `inner` unless a subclass says otherwise."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def another(self) -> Wrapper:
        return self


class Flaky(Wrapper):
    """`create` meets the scripted fates, then behaves.

    lost: never arrived. unheard: happened, the reply was lost. late: arrives only after the sender has given up on it.
    """

    def __init__(self, inner: Store, fates: list[str]) -> None:
        super().__init__(inner)
        self.fates = fates
        self._late: list[tuple[str, bytes]] = []

    def create(self, key: str, data: bytes) -> bool:
        fate = self.fates.pop(0) if self.fates else "fine"
        if fate == "fine":
            self.arrive()
            return self.inner.create(key, data)
        if fate == "unheard":
            self.inner.create(key, data)
        elif fate == "late":
            self._late.append((key, data))
        raise Uncertain(f"{fate}: {key}")

    def arrive(self) -> None:
        """What was under way lands now."""
        late, self._late = self._late, []
        for key, data in late:
            self.inner.create(key, data)


class Racy(Wrapper):
    """Checks, then writes: what a store without a lock does."""

    def create(self, key: str, data: bytes) -> bool:
        if self.inner.exists(key):
            return False
        time.sleep(0.002)
        self.inner.put(key, data)
        return True


class Unconditional(Wrapper):
    """Ignores If-None-Match."""

    def create(self, key: str, data: bytes) -> bool:
        self.inner.put(key, data)
        return True


class Forgetful(Wrapper):
    """Lists only what was written some time ago."""

    def list(self, prefix: str, start_after: str = "") -> Iterator[str]:
        yield from [*self.inner.list(prefix, start_after)][:-1]


class Down(Wrapper):
    """Answers nothing while `down`."""

    down = True

    def create(self, key: str, data: bytes) -> bool:
        if self.down:
            raise Unavailable("the store is down")
        return self.inner.create(key, data)


class Killing(Wrapper):
    """The process is killed before operation number `kill_at`."""

    def __init__(self, inner: Store, kill_at: int) -> None:
        super().__init__(inner)
        self._count = counter(kill_at)

    def __getattribute__(self, name: str) -> Any:
        if name in (
            "create",
            "create_file",
            "upload",
            "put",
            "get",
            "chunks",
            "fetch",
            "exists",
            "list",
            "folders",
            "delete",
        ):
            self._count()
        return super().__getattribute__(name)


def counter(kill_at: int) -> Callable[[], None]:
    calls = 0

    def count() -> None:
        nonlocal calls
        if calls == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        calls += 1

    return count
