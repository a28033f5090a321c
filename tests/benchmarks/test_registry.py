"""The registry's numbers: what is counted, and what people read."""

from __future__ import annotations

from pathlib import Path

import msgspec

from benchmarks.registry.__main__ import LATEST, slower
from benchmarks.registry.counting import Counted
from benchmarks.registry.operations import measure
from benchmarks.registry.report import BUCKET, README, Results, markdown, rewrite_readme
from registry.directory import DirectoryStore


def results() -> Results:
    return msgspec.json.decode(LATEST.read_bytes(), type=Results)


def test_every_operation_is_timed_and_counted(tmp_path: Path) -> None:
    found = measure(Counted(DirectoryStore(tmp_path)), rounds=2, models=3)
    assert found.seconds.keys() == found.requests.keys() == results().median_ms[BUCKET].keys()
    assert found.requests["resolve"] == [1, 1], "one look for a newer event"
    assert all(count > 0 for counts in found.requests.values() for count in counts)


def test_the_slower_of_two_runs_counts() -> None:
    assert slower({"list": [1.0, 2.0, 9.0]}, {"list": [1.5, 1.5, 1.5]}) == {"list": 2.0}


def test_the_readme_says_what_was_found(tmp_path: Path) -> None:
    assert markdown(results()) in README.read_text()
    page = tmp_path / "README.md"
    page.write_text(README.read_text())
    rewrite_readme(results(), page)
    assert page.read_text() == README.read_text()


def test_what_was_not_measured_is_told() -> None:
    missing = msgspec.structs.replace(results(), failures={BUCKET: "no server\nat all"})
    missing.median_ms.pop(BUCKET)
    assert "- Not measured: Lorimer, S3: no server\n" in markdown(missing)
    assert "| - |" in markdown(missing)
