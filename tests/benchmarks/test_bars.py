"""Every bar is judged by the numbers, and by nothing that was not measured."""

from __future__ import annotations

import pytest

from benchmarks.__main__ import INCOMPLETE, exit_code
from benchmarks.bars import BARS, judge
from benchmarks.cases import DECODE_16, DECODE_NONE, GROUPS, PREFILL_NONE
from benchmarks.results import AGAIN, OURS, Results, beside
from serving.bench import CASES


def verdicts(results: Results) -> dict[tuple[str, str], str]:
    return {(each.bar.line, each.bar.what): each.verdict for each in judge(results)}


def test_a_run_within_every_bar_passes(results: Results) -> None:
    assert {each.verdict for each in judge(results)} == {"pass"}
    assert len(judge(results)) == len(BARS)
    assert exit_code(results) == 0


def test_every_speed_case_and_every_group_has_a_bar() -> None:
    assert {case.name for case in CASES} <= {bar.line for bar in BARS}
    assert {bar.group for bar in BARS} == set(GROUPS)


def test_the_distinct_case_is_judged_against_each_peer(results: Results) -> None:
    results.rates["vllm"][DECODE_16.name] = [126.0]
    found = verdicts(results)
    assert found[DECODE_16.name, "vLLM-CPU"] == "FAIL"  # 500 / 126 < 4
    assert found[DECODE_16.name, "llama.cpp"] == found[DECODE_16.name, "PEFT"] == "pass"
    assert exit_code(results) == 1


def test_the_best_peer_is_the_one_that_counts(results: Results) -> None:
    results.rates["peft"][PREFILL_NONE.name] = [501.0]
    assert verdicts(results)[PREFILL_NONE.name, "the best peer"] == "FAIL"


def test_a_peer_is_met_by_the_rounds_in_turn_with_it(results: Results) -> None:
    """A machine that slowed down between two contenders says nothing about either."""
    results.rates["vllm"][DECODE_NONE.name] = [100.0, 400.0, 50.0]
    results.rates[beside("vllm")][DECODE_NONE.name] = [110.0, 440.0, 45.0]
    results.rates[OURS][DECODE_NONE.name] = [10.0]
    assert results.ratio("vllm", DECODE_NONE.name) == pytest.approx(1.1)
    assert verdicts(results)[DECODE_NONE.name, "the best peer"] == "pass"
    results.rates[beside("vllm")][DECODE_NONE.name] = [90.0, 360.0, 55.0]
    assert verdicts(results)[DECODE_NONE.name, "the best peer"] == "FAIL"


def test_our_rate_is_the_median_of_all_our_rounds(results: Results) -> None:
    for name, rates in ((OURS, [1.0]), (AGAIN, [2.0]), *((beside(peer), [3.0, 4.0, 5.0]) for peer in results.peers)):
        results.rates[name][DECODE_NONE.name] = rates
    assert results.rate(OURS, DECODE_NONE.name) == 4.0


def test_a_share_is_of_rounds_that_ran_side_by_side(results: Results) -> None:
    results.rates[OURS] |= {DECODE_16.name: [400.0, 200.0, 360.0], DECODE_NONE.name: [500.0, 250.0, 500.0, 999.0]}
    assert results.share(DECODE_16.name, DECODE_NONE.name) == 0.8
    results.rates[AGAIN] |= {DECODE_16.name: [700.0], DECODE_NONE.name: [1000.0]}
    assert results.share(DECODE_16.name, DECODE_NONE.name) == 0.7, "the worse pass counts"


def test_a_peer_of_another_precision_judges_nothing(results: Results) -> None:
    results.peers.append("llama-q4")
    results.rates["llama-q4"] = {case.name: [10_000.0] for case in CASES}
    assert set(verdicts(results).values()) == {"pass"}


def test_a_missing_peer_leaves_its_bars_open_and_the_run_incomplete(results: Results) -> None:
    del results.rates["vllm"]
    results.failures["vllm"] = "it cannot be built"
    found = verdicts(results)
    assert found[DECODE_16.name, "vLLM-CPU"] == "not measured"
    assert found[DECODE_NONE.name, "the best peer"] == "not measured", "without all peers nobody knows the best"
    assert found[DECODE_16.name, "llama.cpp"] == "pass"
    assert exit_code(results) == INCOMPLETE


def test_only_the_chosen_groups_are_judged(results: Results) -> None:
    results.groups = ["cold"]
    assert {each.bar.group for each in judge(results)} == {"cold"}


@pytest.mark.parametrize(
    ("group", "key", "value"),
    [
        ("many", "lost", 0.07),
        ("many", "peak_bytes", 1.1e9),
        ("cold", "added_ms", 61.0),
        ("cold", "p99_ratio", 1.51),
        ("http", "lost", 0.11),
    ],
)
def test_too_much_fails(results: Results, group: str, key: str, value: float) -> None:
    results.measures[group][key] = value
    assert list(verdicts(results).values()).count("FAIL") == 1
