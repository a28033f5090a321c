from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from registry.adapters import Registry
from registry.store import open_store
from serving.commands import base, bench

RUNNER = CliRunner(env={"LORIMER_THREADS": "1"})


def test_base_shows_digests_and_registers(tiny_base_dir: Path, tmp_path: Path) -> None:
    store = f"file://{tmp_path / 'store'}"
    arguments = ["--base", str(tiny_base_dir), "--store", store, "--dtype", "float32", "--json"]
    unregistered = json.loads(RUNNER.invoke(base, arguments).stdout)
    assert unregistered["registered"] is False
    registry = Registry(open_store(store))
    registry.init()
    shown = json.loads(RUNNER.invoke(base, arguments).stdout)
    assert shown["registered"] is True
    (profile,) = registry.bases()
    assert profile.identity.weights_sha256 == shown["identity"]["weights_sha256"]


def test_a_missing_base_is_one_line_and_exit_code_three(tmp_path: Path) -> None:
    result = RUNNER.invoke(base, ["--base", str(tmp_path / "nowhere")])
    assert result.exit_code == 3
    assert "nowhere" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_bench_measures_every_case(tiny_base_dir: Path) -> None:
    arguments = ["engine", "--base", str(tiny_base_dir), "--rounds", "1", "--rank", "2", "--json"]
    result = RUNNER.invoke(bench, arguments)
    rates = json.loads(result.stdout)
    assert len(rates) == 8
    assert all(rate["tokens_per_s"] > 0 for rate in rates)
