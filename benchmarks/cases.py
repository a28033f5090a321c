"""What is measured: the groups that can be chosen, and the plan a contender is told. Knows no contender."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from registry.errors import Invalid
from serving.bench import CASES, Case

GROUPS = {
    "decode": "16 rows with no, 1, 4 and 16 adapters",
    "single": "one row with no and one adapter",
    "prefill": "16 prompts of 256 tokens with no and 16 adapters",
    "many": "2,000 registered adapters against 5, Zipf traffic",
    "cold": "an adapter that only the store holds",
    "http": "streaming through the gateway against the engine",
}
DECODE_NONE, DECODE_1, DECODE_4, DECODE_16, SINGLE_NONE, SINGLE_1, PREFILL_NONE, PREFILL_16 = CASES


def group(case: Case) -> str:
    if case.answer == 1:
        return "prefill"
    return "single" if case.rows == 1 else "decode"


def choose(groups: Iterable[str]) -> tuple[Case, ...]:
    """The speed cases of these groups; efficiency needs both the ends of its group, so groups are never split."""
    wanted = set(groups)
    unknown = wanted - GROUPS.keys()
    if unknown:
        raise Invalid(f"unknown cases: {', '.join(sorted(unknown))}", hint=f"known: {', '.join(GROUPS)}")
    return tuple(case for case in CASES if group(case) in wanted)


def plan(
    cases: Sequence[Case],
    *,
    base: Path,
    adapters: Sequence[Path],
    vocab_size: int,
    threads: int,
    rounds: int,
    budget_s: float,
) -> dict[str, Any]:
    """What `peers/protocol.py` describes: the same prompts and adapters for everybody, as plain JSON."""
    return {
        "base": str(base),
        "adapters": [str(path) for path in adapters],
        "threads": threads,
        "budget_s": budget_s,
        "cases": [
            {
                "name": case.name,
                "rows": case.rows,
                "adapters": case.adapters,
                "answer": case.answer,
                "prompts": [case.prompts(number, vocab_size) for number in range(rounds + 1)],
            }
            for case in cases
        ],
    }
