"""How contenders are told and timed."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.peers.protocol import MARK, covered, heard, measure, token_rate

DECODE = {"name": "decode", "rows": 2, "adapters": 0, "answer": 11}
PREFILL = {"name": "prefill", "rows": 2, "adapters": 0, "answer": 1}
PROMPTS = [[1] * 100, [2] * 100]


def test_decode_counts_from_the_last_first_token() -> None:
    assert token_rate(DECODE, PROMPTS, 0.0, [(1.0, 5.0), (3.0, 7.0)]) == 2 * 10 / (7.0 - 3.0)


def test_prefill_counts_from_submission() -> None:
    assert token_rate(PREFILL, PROMPTS, 1.0, [(2.0, 2.0), (5.0, 5.0)]) == 200 / 4.0


@pytest.mark.parametrize(
    ("spans", "seconds"),
    [([], 0), ([(0, 2), (1, 3)], 3), ([(0, 1), (5, 6)], 2), ([(5, 6), (0, 1), (0, 6)], 6), ([(0, 4), (1, 2)], 4)],
)
def test_turns_are_charged_and_pauses_are_not(spans: list[tuple[float, float]], seconds: float) -> None:
    assert covered(spans) == seconds


def test_only_marked_lines_are_facts() -> None:
    assert heard('some library says {"rate": 1}\n') is None
    assert heard(MARK + '{"case": "a", "rate": 2.5}\n') == {"case": "a", "rate": 2.5}


def facts(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [fact for line in capsys.readouterr().out.splitlines() if (fact := heard(line))]


def test_every_round_has_its_own_prompts_and_the_first_only_warms_up(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[tuple[int, int]] = []

    def rate(case: dict[str, Any], prompts: list[list[int]]) -> float:
        seen.append((case["answer"], prompts[0][0]))
        return float(prompts[0][0])

    measure({"budget_s": 60, "cases": [{**DECODE, "prompts": [[[7] * 300], [[8]], [[9]]]}]}, rate)
    assert seen == [(4, 7), (11, 8), (11, 9)]
    assert [fact["rate"] for fact in facts(capsys) if "rate" in fact] == [8.0, 9.0]


def test_a_case_that_used_up_its_time_gets_no_further_round(capsys: pytest.CaptureFixture[str]) -> None:
    measure({"budget_s": 0, "cases": [{**DECODE, "prompts": [[[7]], [[8]], [[9]]]}]}, lambda *_: 1.0)
    assert sum("rate" in fact for fact in facts(capsys)) == 1


def test_cases_take_turns_forth_and_back_until_each_is_done() -> None:
    seen: list[str] = []

    def rate(case: dict[str, Any], prompts: list[list[int]]) -> float:
        seen.append(case["name"] + str(prompts[0][0]))
        return 1.0

    prompts = [[[number]] for number in range(4)]
    measure(
        {
            "budget_s": 60,
            "cases": [
                {"name": "a", "answer": 1, "prompts": prompts},
                {"name": "b", "answer": 1, "prompts": prompts[:3]},
            ],
        },
        rate,
    )
    assert seen == ["a0", "b0", "b1", "a1", "a2", "b2", "a3"]


def test_a_case_that_fails_is_told_and_the_next_one_runs(capsys: pytest.CaptureFixture[str]) -> None:
    def rate(case: dict[str, Any], _: list[list[int]]) -> float:
        if case["name"] == "decode":
            raise ValueError("no such kernel")
        return 3.0

    plan = {"budget_s": 1, "cases": [{**case, "prompts": [[[1]], [[2]]]} for case in (DECODE, PREFILL)]}
    measure(plan, rate)
    found = facts(capsys)
    assert {"case": "decode", "error": "ValueError: no such kernel"} in found
    assert {"case": "prefill", "rate": 3.0} in found
