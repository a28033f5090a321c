"""What a contender's script is told, and what it answers. Standard library only: it runs in every environment.

    told      a JSON file: {"base", "adapters", "threads", "budget_s", "cases"}; a case is {"name", "rows", "adapters",
              "answer", "prompts"} with prompts[round][row] a list of token ids; round 0 warms up
    answers   lines of standard output that begin with MARK: {"about": ...}; of each round {"case", "rate"} or
              {"case", "error"}, and of the first {"case", "rounds"}: how many will follow
    in turn   peers say {"next": case} before each round, and begin it when a line comes on standard input

Every round has prompts of its own, so that no cache of prompts can help anybody.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

MARK = "@bench "
WARM_ANSWER = 4
WARM_PROMPT = 64

Case = dict[str, Any]
Prompts = list[list[int]]
Rate = Callable[[Case, Prompts], float]
"""One round of a case, in tokens per second."""


def told() -> dict[str, Any]:
    """The plan whose path is the script's first argument."""
    plan: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    return plan


def say(**fact: Any) -> None:
    print(MARK + json.dumps(fact), flush=True)


def heard(line: str) -> dict[str, Any] | None:
    """The fact in a line of a script's output; None for anything else it printed."""
    if not line.startswith(MARK):
        return None
    fact: dict[str, Any] = json.loads(line.removeprefix(MARK))
    return fact


def measure(plan: dict[str, Any], rate: Rate, *, in_turn: bool = False) -> None:
    """Every case: a short round to warm up, then rounds until they are done or the case has had its time.

    The cases take turns, forth and back: a machine that becomes busier meanwhile slows all of them alike.
    """
    running = [_Rounds(case, rate, plan["budget_s"]) for case in plan["cases"]]
    while running:
        running = [rounds for rounds in running if rounds.run_next(in_turn=in_turn)][::-1]


def obey(plan: dict[str, Any], rate: Rate) -> None:
    """A round of each case that a line of standard input names, until there are no more."""
    rounds = {case["name"]: _Rounds(case, rate, plan["budget_s"]) for case in plan["cases"]}
    for line in sys.stdin:
        rounds[line.strip()].run_next()


class _Rounds:
    """What is left to be done of one case."""

    def __init__(self, case: Case, rate: Rate, budget_s: float) -> None:
        self._case, self._rate, self._left_s = case, rate, budget_s
        self._warm, *self._left = case["prompts"]
        self._is_warm = False

    def run_next(self, *, in_turn: bool = False) -> bool:
        """Whether there is more to do. A case that a peer cannot run is told, and does not end the others."""
        if in_turn:
            say(next=self._case["name"])
            sys.stdin.readline()
        try:
            self._measure() if self._is_warm else self._warm_up()
        except Exception as error:  # noqa: BLE001
            say(case=self._case["name"], error=f"{type(error).__name__}: {error}")
            return False
        return bool(self._left) and self._left_s >= 0

    def _warm_up(self) -> None:
        case = self._case
        self._rate({**case, "answer": min(case["answer"], WARM_ANSWER)}, [row[:WARM_PROMPT] for row in self._warm])
        self._is_warm = True
        say(case=case["name"], rounds=len(self._left))

    def _measure(self) -> None:
        started = time.perf_counter()
        say(case=self._case["name"], rate=self._rate(self._case, self._left.pop(0)))
        self._left_s -= time.perf_counter() - started


def token_rate(
    case: Case, prompts: Sequence[Sequence[int]], started: float, spans: Sequence[tuple[float, float]]
) -> float:
    """Tokens per second of a round, from each row's (first token, last token) in seconds on one clock.

    Prefill (answers of one token): prompt tokens from submission to the last row's first token. Decode: from the
    moment every row has its first token to the last token.
    """
    last_first = max(first for first, _ in spans)
    if case["answer"] == 1:
        return sum(len(prompt) for prompt in prompts) / (last_first - started)
    tokens: int = case["rows"] * (case["answer"] - 1)
    return tokens / (max(last for _, last in spans) - last_first)


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Seconds in which at least one span runs: what a server that takes turns is charged for, and no more."""
    total, reached = 0.0, float("-inf")
    for start, stop in sorted(spans):
        total += max(0.0, stop - max(start, reached))
        reached = max(reached, stop)
    return total
