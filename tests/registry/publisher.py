"""Publishes a second version again and again, killed before operation 0, 1, 2, ... of each run; a program of its own.

    python publisher.py os WORK             the store is a directory; system calls that write are counted
    python publisher.py store WORK URL END  any store; its operations are counted

Each run has a store of its own: WORK/<k> or URL/<k>. Prints how many runs were killed; the last one was not.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from registry.adapters import Registry
from registry.directory import DirectoryStore
from registry.store import Store, open_store
from tests.registry.folders import PROFILE, write_folder
from tests.registry.stores import Killing, counter

POLICY = {"capture": True}


def prepare(store: Store, work: Path) -> None:
    """A registry that serves version 1."""
    registry = Registry(store, actor="before")
    registry.register_base(PROFILE)
    registry.publish("x", write_folder(work / "one", seed=1), aliases={"prod": None})


def publish(store: Store, work: Path) -> None:
    registry = Registry(store, actor="publisher")
    registry.publish("x", write_folder(work / "two", seed=2), aliases={"prod": msgspec.UNSET}, policy=POLICY)


def count_system_calls(kill_at: int) -> None:
    count = counter(kill_at)

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            count()
            return call(*args, **kwargs)

        return run

    for name in ("link", "fsync", "unlink", "replace", "mkdir"):
        setattr(os, name, counted(getattr(os, name)))


def killed(run: Callable[[int], None], kill_at: int) -> bool:
    """Run in a child; whether it was killed."""
    child = os.fork()
    if child == 0:
        run(kill_at)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0, status
    return os.WIFSIGNALED(status)


def main(kind: str, work: Path, url: str = "", endpoint: str = "") -> int:
    def place(kill_at: int) -> Store:
        return (
            DirectoryStore(work / str(kill_at))
            if kind == "os"
            else open_store(f"{url}/{kill_at}", s3_endpoint=endpoint)
        )

    def run(kill_at: int) -> None:
        if kind == "os":
            count_system_calls(kill_at)
            publish(place(kill_at), work)
        else:
            publish(Killing(place(kill_at), kill_at), work)

    if kind == "os":
        prepare(DirectoryStore(work / "before"), work)
    write_folder(work / "two", seed=2)
    kill_at = 0
    while True:
        if kind == "os":
            shutil.copytree(work / "before", work / str(kill_at))
        else:
            prepare(place(kill_at), work)
        if not killed(run, kill_at):
            return kill_at
        kill_at += 1


if __name__ == "__main__":
    sys.stdout.write(f"{main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])}\n")
