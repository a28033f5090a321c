"""push, pull, export, import, copy on the command line: what is said, what is recorded, what exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lorimer import cli
from registry.adapters import Registry
from registry.directory import DirectoryStore
from tests.registry.folders import PROFILE, write_folder
from tests.registry.keys import write_keys
from tests.registry.wild import REVISION, contents, write_checkpoint, write_shards, write_snapshot


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LORIMER_STORE", f"file://{tmp_path}/store")
    monkeypatch.setenv("LORIMER_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    registry = Registry(DirectoryStore(tmp_path / "store"))
    registry.init()
    registry.register_base(PROFILE)
    registry.publish("support", write_folder(tmp_path / "one", seed=1), aliases={"prod": None})
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["registry", *arguments])


def run_json(*arguments: str) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_checkpoint_is_pushed_without_what_is_beside_it(place: Path) -> None:
    write_checkpoint(place / "checkpoint-20", seed=2)
    result = run("push", "checkpoint-20", "support")
    assert result.exit_code == 0, result.output
    assert "left out optimizer.pt (state of a training)" in result.stderr
    assert "left out README.md (model card)" in result.stderr
    pushed = run_json("push", "checkpoint-20", "support")
    assert [entry["path"] for entry in pushed["manifest"]["files"]] == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert {"path": "checkpoint-10/", "reason": "another checkpoint"} in pushed["left_out"]
    kept = run_json("push", "checkpoint-20", "support", "--keep", "README.md")
    assert kept["manifest"]["files"][0]["path"] == "README.md"
    assert run("push", "checkpoint-20", "support", "--keep", "absent").exit_code == 3


def test_a_snapshot_is_pushed_with_its_source(place: Path) -> None:
    files = contents(write_checkpoint(place / "plain", seed=3))
    snapshot = write_snapshot(place / "hub", files)
    pushed = run_json("push", str(snapshot.parent.parent), "support")
    assert pushed["manifest"]["tags"] == {"source": f"someone/tiny-lora@{REVISION}"}
    assert run_json("push", str(snapshot), "support", "--tag", "source=mine")["manifest"]["tags"] == {"source": "mine"}
    (snapshot / "adapter_config.json").unlink()
    (snapshot / "adapter_config.json").symlink_to("/etc/passwd")
    result = run("push", str(snapshot), "support")
    assert (result.exit_code, "outside the blobs" in result.stderr) == (5, True)


def test_shards_and_pickles(place: Path) -> None:
    assert run("push", str(write_shards(place / "sharded")), "support").exit_code == 0
    (place / "one" / "adapter_model.safetensors").rename(place / "one" / "adapter_model.bin")
    result = run("push", "one", "support")
    assert (result.exit_code, "save_pretrained" in result.stderr) == (5, True)


def test_lineage_is_recorded(place: Path) -> None:
    (place / "rows.jsonl").write_text('{"a": 1}\n\n{"a": 2}\n')
    write_folder(place / "two", seed=2)
    options = ("--parent", "support", "--metric", "loss=0.25", "--metric", "f1=1", "--dataset", "rows.jsonl")
    manifest = run_json("push", "two", "support", *options)["manifest"]
    assert manifest["parent"] == {"adapter": "support", "digest": run_json("show", "support")["digest"]}
    assert manifest["metrics"] == {"loss": 0.25, "f1": 1.0}
    assert (manifest["dataset"]["rows"], manifest["dataset"]["uri"]) == (
        2,
        f"lorimer:t/default/datasets/{manifest['dataset']['sha256']}.jsonl",
    )
    assert (place / "store" / manifest["dataset"]["uri"].removeprefix("lorimer:")).is_file()
    for option in ("--metric", "loss=low"), ("--metric", "loss=nan"), ("--metric", "loss"), ("--dataset", "absent"):
        assert run("push", "two", "support", *option).exit_code == 2, option
    assert run("push", "two", "support", "--parent", "support@v9").exit_code == 3


@pytest.mark.parametrize("form", ["oms", "oci"])
def test_out_and_in_again(place: Path, form: str) -> None:
    write_keys(place)
    shown = run_json("show", "support")
    result = run("export", "support", "out", "--format", form, "--key", "key.pem")
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == f"support@v1 {shown['digest']} -> out ({form})"
    imported = run_json("import", "out", "again", "--key", "key.pub", "--alias", "prod")
    assert (imported["digest"], imported["adapter"], imported["signed"]) == (shown["digest"], "again", True)
    assert run("import", "out", "again").exit_code == 5
    assert run("export", "support", "out", "--format", form, "--key", "key.pem").exit_code == 4
    assert run("export", "support", "other", "--format", form, "--key", "key.pub").exit_code == 2
    assert run("import", "one", "again").exit_code == 5
    assert run("import", "absent", "again").exit_code == 2


def test_plain_and_unsigned(place: Path) -> None:
    assert run("export", "support", "plain").exit_code == 0
    assert contents(place / "plain") == contents(place / "one")
    assert run("export", "support", "signed", "--format", "oms").exit_code == 2
    assert run("export", "support", "layout", "--format", "oci").exit_code == 0
    imported = run_json("import", "layout", "again", "--tag", "v1")
    assert (imported["digest"], imported["signed"]) == (run_json("show", "support")["digest"], False)
    assert run("import", "layout", "again", "--tag", "v2").exit_code == 3


def test_copy_to_another_registry(place: Path) -> None:
    there = f"file://{place}/there"
    assert run("copy", "support", "--to", there).exit_code == 3
    assert run("init", "--store", there).exit_code == 0
    copied = run_json("copy", "support", "--to", there, "--as", "moved", "--to-tenant", "far", "--alias", "prod")
    assert (copied["digest"], copied["tenant"]) == (run_json("show", "support")["digest"], "far")
    assert run_json("show", "moved", "--store", there, "--tenant", "far")["aliases"] == ["prod"]
    assert f"in {there}" in run("copy", "support", "--to", there).stdout
    assert run("copy", "absent", "--to", there).exit_code == 3
    assert run("copy", "support", "--to", "nonsense://x").exit_code == 2


def test_a_quarantined_version_goes_nowhere(place: Path) -> None:
    assert run("quarantine", "support", "v1", "--reason", "rude").exit_code == 0
    for verb in (
        ("pull", "support", "out"),
        ("export", "support", "out"),
        ("copy", "support", "--to", f"file://{place}/store"),
    ):
        result = run(*verb)
        assert (result.exit_code, "rude" in result.stderr) == (5, True), result.output
    digest = run_json("show", "support")["digest"]
    assert run("export", f"support@{digest}", "out").exit_code == 0
