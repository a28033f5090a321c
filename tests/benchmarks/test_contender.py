"""A script is heard, limited, and ended with all that it started."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.contender import run_script
from registry.errors import Unavailable


def run(code: str, tmp_path: Path, limit_s: float = 30.0) -> list[dict[str, Any]]:
    facts: list[dict[str, Any]] = []
    run_script([sys.executable, "-c", code], tmp_path / "log", limit_s, facts.append)
    return facts


def test_facts_are_heard_and_the_rest_is_logged(tmp_path: Path) -> None:
    code = "import sys; print('chatter'); print('@bench {\"rate\": 2}'); print('warning', file=sys.stderr)"
    assert run(code, tmp_path) == [{"rate": 2}]
    assert sorted((tmp_path / "log").read_text().split()) == ["chatter", "warning"]


def test_a_failure_names_its_log_and_shows_the_end_of_it(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"(?s)ended with code 1.*log.*ZeroDivisionError"):
        run("1 / 0", tmp_path)


def test_what_cannot_be_started_says_so(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no-such-program cannot be started"):
        run_script([str(tmp_path / "no-such-program")], tmp_path / "log", 1, lambda _: None)


def test_a_script_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    code = (
        "import pathlib, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"pathlib.Path({str(pid)!r}).write_text(str(child.pid))\n"
        "child.wait()"
    )
    with pytest.raises(Unavailable, match="stopped after 1 s"):
        run(code, tmp_path, limit_s=1.0)
    assert gone(int(pid.read_text()))


def gone(pid: int) -> bool:
    """Killed, though perhaps not yet reaped by whoever adopted it."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
            return True
        time.sleep(0.05)
    return False
