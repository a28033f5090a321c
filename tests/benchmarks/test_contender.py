"""A script is heard, limited, and ended with all that it started."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.contender import Contender, run_in_turn, run_script
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


PEER = """
import sys, time
sys.path.insert(0, {root!r})
from benchmarks.peers.protocol import measure, say
say(about={{"version": "1"}})
cases = [{{"name": name, "answer": 1, "prompts": [[[1]], [[2]], [[3]]]}} for name in ("a", "b")]
def rate(case, prompts):
    print("chatter")
    return float(prompts[0][0])
measure({{"budget_s": 60, "cases": cases}}, rate, in_turn=True)
"""
OWN = PEER.replace("import measure", "import obey").replace("measure({{", "obey({{").replace(", in_turn=True", "")


def test_rounds_are_run_in_turn_with_those_of_the_same_case(tmp_path: Path) -> None:
    root, heard = str(Path(__file__).parents[2]), []
    own, other = (
        Contender([sys.executable, "-c", code.format(root=root)], tmp_path / name, 60.0)
        for name, code in (("own", OWN), ("other", PEER))
    )
    with own:
        run_in_turn(own, other, lambda fact: heard.append(("own", fact)), lambda fact: heard.append(("other", fact)))
    rounds = [(who, fact["case"], fact.get("rate")) for who, fact in heard if "case" in fact]
    assert rounds[::2] == [("own", case, rate) for _, case, rate in rounds[1::2]]
    assert [who for who, _, _ in rounds[1::2]] == ["other"] * 6
    assert [(case, rate) for _, case, rate in rounds[1::2]] == [
        ("a", None),
        ("b", None),
        ("b", 2.0),
        ("a", 2.0),
        ("a", 3.0),
        ("b", 3.0),
    ]


def test_a_contender_that_rests_does_nothing(tmp_path: Path) -> None:
    code = (
        "import time\n"
        "for _ in range(100):\n"
        "    print('@bench {\"now\": %f}' % time.monotonic(), flush=True)\n"
        "    time.sleep(0.01)"
    )
    with Contender([sys.executable, "-c", code], tmp_path / "log", 60.0) as contender:
        facts = contender.facts()
        next(facts)
        contender.rest()
        rested = time.monotonic() + 0.1
        time.sleep(0.5)
        woken = time.monotonic()
        contender.wake()
        times = [fact["now"] for fact in facts]
    assert len(times) == 99
    assert not [at for at in times if rested < at < woken]


def test_a_peer_that_fails_between_rounds_is_told(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[2])
    own = Contender([sys.executable, "-c", OWN.format(root=root)], tmp_path / "own", 60.0)
    other = Contender([sys.executable, "-c", "1 / 0"], tmp_path / "other", 60.0)
    with own, pytest.raises(Unavailable, match=r"(?s)ended with code 1.*ZeroDivisionError"):
        run_in_turn(own, other, lambda _: None, lambda _: None)


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
