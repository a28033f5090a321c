"""One measured process at a time: started, listened to, limited, and ended with whatever it started. Knows no case."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from benchmarks.peers.protocol import heard
from registry.errors import Unavailable

ROOT = Path(__file__).parent.parent
TAIL = 12

Fact = dict[str, Any]


def run_script(command: Sequence[str], log: Path, limit_s: float, on_fact: Callable[[Fact], None]) -> None:
    """Run to the end; facts as they come, everything else into `log`. Unavailable: it failed or took too long."""
    log.parent.mkdir(parents=True, exist_ok=True)
    late = threading.Event()
    with log.open("w", encoding="utf-8", errors="replace") as file, _start(command, file) as process:
        timer = threading.Timer(limit_s, _end_late, (process, late))
        timer.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                fact = heard(line)
                if fact is None:
                    file.write(line)
                else:
                    on_fact(fact)
            code = process.wait()
        finally:
            timer.cancel()
            _end(process)
    if late.is_set():
        raise Unavailable(f"it was stopped after {limit_s:.0f} s", hint=_tail(log))
    if code:
        raise Unavailable(f"it ended with code {code}", hint=_tail(log))


def _start(command: Sequence[str], log: TextIO) -> subprocess.Popen[str]:
    """In a session of its own, so that it can be ended with all it started."""
    try:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise Unavailable(f"{command[0]} cannot be started: {error.strerror or error}") from error


def _end_late(process: subprocess.Popen[str], late: threading.Event) -> None:
    late.set()
    _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """The whole session, so that no server outlives its script."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _tail(log: Path) -> str:
    with log.open(encoding="utf-8", errors="replace") as file:
        lines = deque(file, maxlen=TAIL)
    return "".join([f"the end of {log}:\n", *lines]).rstrip()
