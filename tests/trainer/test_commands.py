from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from lorimer import cli
from tests.trainer.letters import letter_rows
from trainer.evidence import EVIDENCE_FILE

if TYPE_CHECKING:
    from tests.trainer.conftest import Lab, WriteJsonl

SPEC = """
[job]
name = "letters"
task = "classify"
[method]
r = 8
alpha = 16
[data]
train = "data.jsonl"
split = {{ val = 0.1, test = 0.25 }}
[train]
lr = 1e-2
epochs = 8
steps = {steps}
tokens_per_step = 256
[gates]
"test/accuracy" = {{ min = 0.9 }}
[publish]
alias = "prod"
"""


@pytest.fixture
def lorimer(lab: Lab, tiny_base_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    environ = {
        "LORIMER_STORE": lab.registry.store.url,
        "LORIMER_CACHE_DIR": str(lab.home),
        "LORIMER_BASE": str(tiny_base_dir),
        "LORIMER_DTYPE": "float32",
        "LORIMER_KV_TOKENS": "8192",
        "LORIMER_THREADS": "1",
    }

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(cli, list(arguments), env=environ)

    return invoke


@pytest.fixture
def make_spec(tmp_path: Path, write_jsonl: WriteJsonl) -> Any:
    write_jsonl(letter_rows(("vowels", "stops"), 20))

    def make(steps: int = 30) -> str:
        path = tmp_path / "letters.toml"
        path.write_text(SPEC.format(steps=steps))
        return str(path)

    return make


def test_check_counts_what_would_be_trained_on(lorimer: Any, make_spec: Any) -> None:
    done = lorimer("train", "check", make_spec(), "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["labels"] == ["s", "v"]
    assert sum(split["rows"] for split in told["splits"].values()) == 40
    assert told["splits"]["train"]["supervised"] == 2 * told["splits"]["train"]["rows"]
    assert "supervised" in lorimer("train", "check", make_spec()).stdout


def test_bad_input_is_one_line_with_the_place(lorimer: Any, make_spec: Any, tmp_path: Path) -> None:
    spec = make_spec()
    with (tmp_path / "data.jsonl").open("a") as file:
        file.write('{"text": "no label"}\n')
    done = lorimer("train", "check", spec)
    assert done.exit_code == 2
    assert "data.jsonl:41: needs messages" in done.stderr
    assert "Traceback" not in done.output
    assert lorimer("train", "run", str(tmp_path / "absent.toml")).exit_code == 3
    assert lorimer("train", "resume", str(tmp_path)).exit_code == 3


def test_run_publishes(lorimer: Any, make_spec: Any, lab: Lab) -> None:
    done = lorimer("train", "run", make_spec(), "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["digest"] == lab.registry.resolve("letters@prod").digest
    assert told["measured"]["candidate"]["test/accuracy"]["n"] == 10


def test_a_refused_run_exits_5_and_can_be_judged_again(lorimer: Any, make_spec: Any, tmp_path: Path) -> None:
    done = lorimer("train", "run", make_spec(steps=1), "--json")
    assert done.exit_code == 5, done.output
    directory = Path(json.loads(done.stdout)["directory"])
    assert (directory / EVIDENCE_FILE).exists()
    again = lorimer("train", "gate", str(directory))
    assert again.exit_code == 5
    assert "FAIL test/accuracy" in again.stdout
    lenient = tmp_path / "letters.toml"
    lenient.write_text(lenient.read_text().replace("min = 0.9", "min = 0.0"))
    assert lorimer("train", "gate", str(directory), "--spec", str(lenient)).exit_code == 0


def test_a_worker_with_nothing_to_do_leaves(lorimer: Any) -> None:
    done = lorimer("worker", "--once", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == []


def test_help_names_the_verbs(lorimer: Any) -> None:
    told = lorimer("train", "--help").stdout
    assert all(verb in told for verb in ("check", "run", "resume", "gate"))
