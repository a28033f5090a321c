"""Measured processes, one at work at a time: started, heard, limited, ended with all they started. Know no case."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self, TextIO

from benchmarks.peers.protocol import heard
from registry.errors import Unavailable

ROOT = Path(__file__).parent.parent
TAIL = 12

Fact = dict[str, Any]


class Contender:
    """A process, from entering to leaving; `log` gets whatever it prints that is no fact. It has `limit_s` seconds."""

    def __init__(self, command: Sequence[str], log: Path, limit_s: float) -> None:
        self._command = command
        self._log = log
        self._limit_s = limit_s

    def __enter__(self) -> Self:
        """Unavailable: it cannot be started."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._log.open("w", encoding="utf-8", errors="replace")
        try:
            self._process = _start(self._command, self._file)
        except BaseException:
            self._file.close()
            raise
        self._late = threading.Event()
        self._timer = threading.Timer(self._limit_s, self._end_late)
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._signal(signal.SIGKILL)
        with contextlib.suppress(OSError):
            self._process.__exit__(None, None, None)
        self._file.close()

    def facts(self) -> Iterator[Fact]:
        """As they come, to the end. Unavailable: it failed or took too long."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            fact = heard(line)
            if fact is None:
                self._file.write(line)
            else:
                yield fact
        code = self._process.wait()
        self._file.flush()
        if self._late.is_set():
            raise Unavailable(f"it was stopped after {self._limit_s:.0f} s", hint=_tail(self._log))
        if code:
            raise Unavailable(f"it ended with code {code}", hint=_tail(self._log))

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # that it has ended shows in its facts
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()

    def rest(self) -> None:
        """Nothing of it runs until it is woken, not even threads that wait for work by spinning."""
        self._signal(signal.SIGSTOP)

    def wake(self) -> None:
        self._signal(signal.SIGCONT)

    def _end_late(self) -> None:
        self._late.set()
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        """To the whole session, so that no server rests less or lives longer than its script."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


def run_script(command: Sequence[str], log: Path, limit_s: float, on_fact: Callable[[Fact], None]) -> None:
    """Run to the end; facts as they come. Unavailable: it failed or took too long."""
    with Contender(command, log, limit_s) as contender:
        for fact in contender.facts():
            on_fact(fact)


def run_in_turn(
    own: Contender, other: Contender, on_own: Callable[[Fact], None], on_other: Callable[[Fact], None]
) -> None:
    """Each of the other's rounds right after one of our own of the same case; whoever is not in turn rests.

    `own` obeys, `other` asks (peers/protocol.py). `other` is entered here, when `own` is ready.
    """
    ours = own.facts()

    def hear_own() -> None:
        fact = next(ours, None)
        if fact is None:
            raise Unavailable("our own engine ended before the other")
        on_own(fact)

    hear_own()
    own.rest()
    with other:
        for fact in other.facts():
            if "next" not in fact:
                on_other(fact)
                continue
            other.rest()
            own.wake()
            own.tell(fact["next"])
            hear_own()
            own.rest()
            other.wake()
            other.tell("go")


def _start(command: Sequence[str], log: TextIO) -> subprocess.Popen[str]:
    """In a session of its own, so that it can be ended with all it started."""
    try:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise Unavailable(f"{command[0]} cannot be started: {error.strerror or error}") from error


def _tail(log: Path) -> str:
    with log.open(encoding="utf-8", errors="replace") as file:
        lines = deque(file, maxlen=TAIL)
    return "".join([f"the end of {log}:\n", *lines]).rstrip()
