"""The commands: what they print, their exit codes, and one readable line for every error."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from msgspec import to_builtins

from lorimer import cli
from registry.adapters import Registry
from registry.directory import DirectoryStore
from registry.jobs import Jobs
from registry.tuning import TuneJob
from tests.registry.folders import PROFILE, write_folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to run in, with the store's address set."""
    for name in ("LORIMER_STORE", "LORIMER_S3_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LORIMER_STORE", f"file://{tmp_path}/store")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def ready(place: Path) -> Path:
    """A registry with the base, and two versions of `support`; prod = 1."""
    registry = Registry(DirectoryStore(place / "store"))
    registry.init()
    registry.register_base(PROFILE)
    registry.publish("support", write_folder(place / "one", seed=1), aliases={"prod": None}, metrics={"loss": 0.5})
    registry.publish("support", write_folder(place / "two", seed=2))
    return place


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def run_json(*arguments: str) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_no_registry_yet(place: Path) -> None:
    result = run("registry", "list")
    assert result.exit_code == 3
    assert "lorimer registry init" in result.stderr
    assert "Traceback" not in result.output


def test_init_and_doctor(place: Path) -> None:
    assert "writable registry at file://" in run("registry", "init").stdout
    assert run_json("registry", "init")["read_only"] is False
    result = run("registry", "doctor")
    assert result.exit_code == 0
    assert "20/20 rounds of 8 racers had exactly one winner" in result.stdout
    assert run_json("registry", "doctor", f"file://{place}/other")["passed"] is True
    assert run("registry", "doctor", "nonsense://x").exit_code == 2


def test_push_list_show_log(ready: Path) -> None:
    result = run("registry", "push", str(write_folder(ready / "three", seed=3)), "support", "--alias", "prod")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("support@v3 sha256:")
    assert "now prod" in result.stdout
    (row,) = run_json("registry", "list")
    assert (row["adapter"], row["latest"], row["aliases"]) == ("support", 3, {"prod": 3})
    assert "prod=v3" in run("registry", "list").stdout
    shown = run("registry", "show", "support@v1").stdout
    assert "metric loss" in shown
    assert "lora, rank 2, alpha 4, on down_proj q_proj" in shown
    assert run_json("registry", "show", "support")["aliases"] == ["prod"]
    log = run("registry", "log", "support").stdout
    assert "publish sha256:" in log
    assert "alias prod -> sha256:" in log
    assert [event["n"] for event in run_json("registry", "log", "support", "--last", "2")] == [2, 3]


def test_push_refusals(ready: Path) -> None:
    (ready / "one" / "model.pt").write_bytes(b"")
    result = run("registry", "push", str(ready / "one"), "support")
    assert (result.exit_code, "model.pt may run code" in result.stderr) == (5, True)
    result = run("registry", "push", str(ready / "two"), "support", "--json")
    assert result.exit_code == 0
    result = run("registry", "push", str(ready / "absent"), "support", "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"] == "invalid"
    assert run("registry", "push", str(ready / "two"), "Bad Name").exit_code == 2
    assert run("registry", "push", str(ready / "two"), "support", "--base-id", "unknown").exit_code == 3
    assert run("registry", "push", str(ready / "two"), "support", "--base-id", "tiny").exit_code == 0
    assert run("registry", "push", str(ready / "two"), "support", "--tag", "nonsense").exit_code == 2


def test_alias_and_rollback(ready: Path) -> None:
    assert run("registry", "alias", "support", "prod", "v2", "--expect", "v1").exit_code == 0
    result = run("registry", "alias", "support", "prod", "v2", "--expect", "v1")
    assert result.exit_code == 4
    assert "support@prod is sha256:" in result.stderr
    assert run("registry", "alias", "support", "canary", "v1", "--expect", "none").exit_code == 0
    assert run("registry", "alias", "support", "canary", "none").exit_code == 0
    assert run_json("registry", "rollback", "support", "--expect", "v2")["number"] == 1
    assert run("registry", "rollback", "support", "--expect", "v2").exit_code == 4
    assert run("registry", "rollback", "support").exit_code == 3


def test_delete_verify_pull(ready: Path) -> None:
    assert run("registry", "delete", "support", "v1").exit_code == 5
    assert run("registry", "pull", "support", str(ready / "out")).exit_code == 0
    assert (ready / "out" / "adapter_config.json").is_file()
    assert run("registry", "pull", "support", str(ready / "out")).exit_code == 4
    assert run_json("registry", "verify")[0]["num_versions"] == 2
    blob = next((ready / "store" / "t/default/a/support/blobs").iterdir())
    blob.write_bytes(b"damaged")
    result = run("registry", "verify", "support")
    assert (result.exit_code, blob.name in result.stderr) == (1, True)
    assert run("registry", "delete", "support", "v2").exit_code == 0


def test_policy(ready: Path) -> None:
    changed = run_json("registry", "policy", "support", "capture=true", "retrain=approve", "min_examples=8")
    assert (changed["capture"], changed["retrain"], changed["min_examples"]) == (True, "approve", 8)
    assert run_json("registry", "policy", "support", "cooldown_s=5")["capture"] is True
    result = run("registry", "policy", "support", "captrue=true")
    assert (result.exit_code, "captrue" in result.stderr) == (2, True)
    assert run("registry", "policy", "unknown").exit_code == 3


def test_jobs(ready: Path) -> None:
    assert "filed" in run("jobs", "submit", "j1", '{"kind": "drift-retrain", "adapter": "support"}').stdout
    assert "was filed before and is queued" in run("jobs", "submit", "j1", "{}").stdout
    assert run("jobs", "submit", "j2", "[1]").exit_code == 2
    assert "drift-retrain" in run("jobs", "list").stdout
    assert run_json("jobs", "list", "--state", "running") == []
    assert run_json("jobs", "show", "j1")["state"] == "queued"
    assert run_json("jobs", "cancel", "j1", "--reason", "no")["state"] == "cancelled"
    assert run("jobs", "cancel", "j1").exit_code == 4
    assert run("jobs", "show", "unknown").exit_code == 3


def test_fine_tuning_jobs(ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flat(text: str) -> str:
        return " ".join(text.split())

    monkeypatch.setenv("COLUMNS", "200")
    jobs = Jobs(DirectoryStore(ready / "store"))
    jobs.submit("ftjob-1", to_builtins(TuneJob(adapter="support", training_file="file-1", metadata={"team": "blue"})))
    job = jobs.claim("hand", 60)
    assert job is not None
    jobs.progress(job, {"stage": "training", "step": 3, "steps": 40, "train_loss": 1.5})
    assert "training 3/40" in flat(run("jobs", "list").stdout)
    shown = flat(run("jobs", "show", "ftjob-1").stdout)
    for line in ("spec.training_file file-1", "spec.metadata.team blue", "progress.train_loss 1.5", "worker hand"):
        assert line in shown
    jobs.succeed(job, {"version": 7, "reasons": ["ok test/nll 1 vs base 2"]})
    assert "support@v7" in flat(run("jobs", "list").stdout)
    assert "result.reasons ok test/nll 1 vs base 2" in flat(run("jobs", "show", "ftjob-1").stdout)


def test_every_command_has_help() -> None:
    for group in ("registry", "jobs"):
        command = cli.get_command(None, group)  # type: ignore[arg-type]
        for name, verb in command.commands.items():  # type: ignore[union-attr]
            assert verb.help, f"{group} {name}"
            assert run(group, name, "--help").exit_code == 0


def test_gc_brings_the_index_up_to_date(ready: Path) -> None:
    store = DirectoryStore(ready / "store")
    an_hour_ago = Registry(store, clock=lambda: time.time() - 3600)
    for number in range(3):
        an_hour_ago.set_policy(f"quiet-{number}", {"min_examples": 1})
    before = [*store.list("t/default/dirty/")]
    assert run("registry", "gc", "--dry-run").exit_code == 0
    assert [*store.list("t/default/dirty/")] == before
    assert run("registry", "gc").exit_code == 0
    left = [*store.list("t/default/dirty/")]
    assert left, "gateways may not have read the newest yet"
    assert not any("quiet" in key for key in left), "nobody listed, and yet they do not pile up"
    assert len([*store.list("t/default/catalog/log/")]) == 1
    assert [row["adapter"] for row in run_json("registry", "list")] == ["quiet-0", "quiet-1", "quiet-2", "support"]


def test_a_split_alias_and_its_rollback(ready: Path) -> None:
    assert "support@prod -> v1 95% v2 5%" in run("registry", "alias", "support", "prod", "v2=5", "v1=95").stdout
    assert "prod (5%)" in run("registry", "show", "support@v2").stdout
    assert run_json("registry", "show", "support@v2")["weights"] == {"prod": 0.05}
    assert run("registry", "alias", "support", "prod", "v2", "--expect", "v1").exit_code == 4
    assert run("registry", "alias", "support", "prod", "v2", "--expect", "v1=95,v2=5").exit_code == 0
    assert "support@prod -> v1 95% v2 5%" in run("registry", "rollback", "support").stdout
    for bad in (("v1=1", "v1=2"), ("v1=1", "v2"), ("v1=x", "v2=1"), ("v1=-1", "v2=1")):
        assert run("registry", "alias", "support", "prod", *bad).exit_code == 2, bad


def test_quarantine(ready: Path) -> None:
    result = run("registry", "quarantine", "support", "prod", "--reason", "leaks names")
    assert "support@v1 is quarantined; prod is refused now" in result.stdout
    refused = run("registry", "pull", "support", str(ready / "out"))
    assert (refused.exit_code, "leaks names" in refused.stderr) == (5, True)
    shown = run_json("registry", "show", "support")
    assert shown["quarantined"] == "leaks names"
    assert run("registry", "pull", f"support@{shown['digest']}", str(ready / "out")).exit_code == 0
    assert run_json("registry", "quarantine", "support", "v1", "--lift")["lifted"] is True
    assert run("registry", "pull", "support", str(ready / "again")).exit_code == 0


def test_lineage_and_times(ready: Path) -> None:
    digest = run_json("registry", "show", "support@v1")["digest"]
    shown = run("registry", "show", digest, "--lineage").stdout
    assert "support@v1" in shown
    assert "served as   prod from" in shown
    assert run_json("registry", "show", "support", "--lineage")["holdings"][0]["alias"] == "prod"
    assert run("registry", "show", "support", "--at", "2000-01-01").exit_code == 3
    assert run_json("registry", "show", "support", "--at", "2999-01-01T00:00Z")["number"] == 1
    assert run("registry", "show", "support", "--at", "yesterday").exit_code == 2
    assert run("registry", "show", "support", "--at", "0", "--lineage").exit_code == 2


def test_retain_and_gc(ready: Path) -> None:
    assert "keep all" in run("registry", "retain", "support").stdout
    assert run("registry", "alias", "support", "prod", "v2").exit_code == 0
    assert run_json("registry", "delete", "support", "v1")["held_by"] == []
    assert "keep last 1" in run("registry", "retain", "support", "--last", "1").stdout
    dry = run("registry", "gc", "--dry-run", "--grace", "0s").stdout
    assert "support@v1 was deleted" in dry
    assert "it is prod" in dry
    assert run("registry", "gc", "support", "--grace", "soon").exit_code == 2
    (report,) = run_json("registry", "gc", "support", "--grace", "0s")
    assert [finding["goes"] for finding in report["blobs"]] == [True]
    assert run_json("registry", "gc", "support", "--grace", "0s")[0]["blobs"] == []
    assert run("registry", "retain", "support", "--all", "--last", "1").exit_code == 2
    assert run_json("registry", "retain", "support", "--all") == {}
