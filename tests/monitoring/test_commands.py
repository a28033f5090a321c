from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner

from monitoring.commands import monitor


def run(world: Any, *args: str) -> Any:
    return CliRunner().invoke(monitor, ["--store", world.store.url, *args])


def test_once_folds_and_reports(world: Any) -> None:
    world.registry.init()
    version = world.publish("a")
    world.send(version, world.embeddings(80, 4, shift=6.0))
    result = run(world, "--once", "--json")
    assert result.exit_code == 0, result.output
    (status,) = json.loads(result.stdout.splitlines()[-1])["adapters"]
    assert (status["adapter"], status["state"], status["sessions"]) == ("a", "DRIFT", 80)
    table = run(world, "--once")
    assert table.exit_code == 0
    assert "DRIFT" in table.stdout
    approved = run(world, "--approve", "a", "--json")
    assert json.loads(approved.stdout) == {"adapter": "a", "approved": status["episode"]["key"]}


def test_a_missing_registry_is_one_clear_line(world: Any) -> None:
    result = run(world, "--once")
    assert result.exit_code == 3
    assert "init" in result.stderr
    assert "Traceback" not in result.output


def test_nothing_to_approve_is_a_conflict(world: Any) -> None:
    world.registry.init()
    world.publish("a")
    assert run(world, "--approve", "a").exit_code == 4
