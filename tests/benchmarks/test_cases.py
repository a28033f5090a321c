"""What is measured can be chosen, and is the same for everybody."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.__main__ import bench
from benchmarks.cases import choose, group, plan
from benchmarks.machine import describe
from registry.errors import Invalid
from serving.bench import CASES


def test_groups_choose_their_cases() -> None:
    assert choose(["single"]) == CASES[4:6]
    assert choose(["decode", "single", "prefill"]) == CASES
    assert choose(["http"]) == ()
    assert [group(case) for case in CASES] == ["decode"] * 4 + ["single"] * 2 + ["prefill"] * 2
    with pytest.raises(Invalid, match="unknown cases: speed"):
        choose(["speed"])


def test_a_plan_has_fresh_prompts_for_every_round() -> None:
    made = plan(CASES[4:], base=Path("b"), adapters=[], vocab_size=500, threads=1, rounds=2, budget_s=1.0)
    assert made == plan(CASES[4:], base=Path("b"), adapters=[], vocab_size=500, threads=1, rounds=2, budget_s=1.0)
    for told, case in zip(made["cases"], CASES[4:], strict=True):
        assert len(told["prompts"]) == 3
        rows = [tuple(row) for round_ in told["prompts"] for row in round_]
        assert len(set(rows)) == len(rows) == 3 * case.rows
        assert {len(row) for row in rows} == {case.prompt}
        assert all(100 <= token < 500 for row in rows for token in row)


def test_a_wrong_choice_is_a_usage_error_that_names_what_there_is() -> None:
    for arguments in (["--only", "tgi"], ["--cases", "speed"], ["--cases", ","]):
        done = CliRunner().invoke(bench, arguments)
        assert done.exit_code == 2
        assert "is not among" in done.output


def test_the_machine_describes_itself() -> None:
    found = describe()
    assert found["cores"] >= 1
    assert found["cpu"]
