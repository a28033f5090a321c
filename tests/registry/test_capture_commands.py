"""`lorimer captures`: what it prints, what it writes, and that no name is left behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lorimer import cli
from registry.adapters import Registry
from registry.captures import CaptureRecord, CaptureWriter, FeedbackRecord
from registry.captures.pseudonyms import Pseudonyms
from registry.captures.reader import Captured
from registry.captures.rows import training_row
from registry.directory import DirectoryStore

DAY_S = 86_400.0


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A registry with captures of two users, a week old."""
    monkeypatch.setenv("LORIMER_STORE", f"file://{tmp_path}/store")
    monkeypatch.chdir(tmp_path)
    registry = Registry(DirectoryStore(tmp_path / "store"))
    registry.init()
    registry.set_policy("support", {"capture": True})
    then = registry.clock() - 7 * DAY_S
    named = Pseudonyms(registry.store, "default").of
    writer = CaptureWriter(registry.store, "default", "gw", lambda: then)
    for number, user in enumerate(("zoe", "bob", "zoe")):
        writer.request(
            CaptureRecord(
                request_id=f"r{number}",
                time=then + number,
                session=named(f"visit-{number}"),
                adapter="support",
                digest="sha256:1",
                messages=[{"role": "user", "content": f"question {number} " + "word " * 40}],
                response=f"answer {number}",
                users=(named(user),),
            )
        )
    writer.feedback(FeedbackRecord(request_id="r0", time=then + 9, adapter="support", correction="better", rating=-1))
    writer.feedback(FeedbackRecord(request_id="r1", time=then + 9, adapter="support", rating=1))
    return tmp_path


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(cli, ["captures", *arguments], input=stdin)


def run_json(*arguments: str) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.usefixtures("place")
def test_list() -> None:
    assert [each["request_id"] for each in run_json("list", "support")] == ["r0", "r1", "r2"]
    assert [each["request_id"] for each in run_json("list", "--limit", "1")] == ["r2"]
    assert [each["request_id"] for each in run_json("list", "--user", "zoe")] == ["r0", "r2"]
    assert [each["request_id"] for each in run_json("list", "--session", "visit-1")] == ["r1"]
    assert run_json("list", "other") == []
    shown = run("list", "support").stdout
    assert "down corrected" in shown
    assert "…" in shown
    assert "nothing captured" in run("list", "other").stdout
    assert run("list", "--since", "yesterday").exit_code == 2


@pytest.mark.usefixtures("place")
def test_export() -> None:
    lines = [json.loads(line) for line in run("export", "support").stdout.splitlines()]
    assert [(each["request_id"], each["correction"]) for each in lines] == [
        ("r0", "better"), ("r1", None), ("r2", None),
    ]  # fmt: skip
    assert run_json("export", "support", "--rows", "--output", "rows.jsonl") == {"path": "rows.jsonl", "lines": 2}
    rows = [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]
    assert [each["messages"][-1]["content"] for each in rows] == ["better", "answer 1"]
    assert [each["meta"]["request_id"] for each in rows] == ["r0", "r1"]


def test_forget(place: Path) -> None:
    done = run_json("forget", "--user", "zoe", "--reason", "by letter")
    assert (done["requests"], done["feedback"], done["remains"]) == (2, 1, [])
    assert [each["request_id"] for each in run_json("list")] == ["r1"]
    assert "0 requests" in run("forget", "--user", "-", stdin="zoe\n").stdout
    first, second = run_json("erasures")
    assert (first["person"], first["done"], first["counts"]["requests"]) == (done["person"], True, 2)
    assert second["person"] == done["person"], "stdin names the same person"
    assert "done" in run("erasures").stdout
    audited = json.loads(CliRunner().invoke(cli, ["audit", "--action", "captures.forget", "--json"]).stdout)
    assert [each["what"]["person"] for each in audited] == [done["person"]] * 2
    files = [path for path in (place / "store").rglob("*") if path.is_file()]
    assert not any(b"zoe" in path.read_bytes() or "zoe" in path.name for path in files)
    assert run("forget", "--user", "").exit_code == 2


@pytest.mark.usefixtures("place")
def test_expire() -> None:
    assert run_json("expire")["requests"] == 0, "no policy says so"
    assert run("expire", "--days", "3").exit_code == 2
    assert run_json("expire", "--adapter", "support", "--days", "30")["requests"] == 0
    assert CliRunner().invoke(cli, ["registry", "policy", "support", "capture_days=5", "redact=all"]).exit_code == 0
    expired = run_json("expire")
    assert (expired["requests"], expired["feedback"]) == (3, 2)
    assert run_json("list") == []
    assert "0 requests" in run("expire").stdout


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        ({"correction": "right"}, "right"),
        ({"correction": "right", "rating": 1}, "right"),
        ({"rating": 1}, "said"),
        ({"rating": -1}, None),
        ({}, None),
        ({"correction": "  "}, None),
        ({"correction": "right", "messages": []}, None),
        ({"correction": "right", "messages": [{"role": "tool", "content": "42"}]}, None),
        ({"correction": "right", "messages": [{"role": "assistant", "content": None}]}, None),
    ],
)
def test_rows_to_train_on(fields: dict[str, Any], answer: str | None) -> None:
    asked = [{"role": "user", "content": "what?"}]
    base = {"request_id": "r", "time": 1.0, "adapter": "x", "digest": "d", "messages": asked, "response": "said"}
    row = training_row(Captured(**(base | fields)))
    assert (row and row["messages"][-1]["content"]) == answer
