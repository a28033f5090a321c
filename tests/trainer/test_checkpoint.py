"""Checkpoints survive `kill -9` at any moment: the curve and the weights are those of an undisturbed run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from registry.errors import Unavailable
from trainer.checkpoint import MANIFEST, NUMBERS, STATE, Checkpoints


def save(checkpoints: Checkpoints, step: int) -> None:
    checkpoints.save(step, {"x": torch.full((4,), float(step))}, b'{"steps": %d}' % step)


def test_the_newest_comes_back_and_old_ones_go(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.newest() is None
    for step in (5, 10, 100):
        save(checkpoints, step)
    newest = checkpoints.newest()
    assert newest is not None
    assert (newest.step, newest.numbers, float(newest.tensors["x"][0])) == (100, b'{"steps": 100}', 100.0)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-000000010", "step-000000100"]


@pytest.mark.parametrize("name", [STATE, NUMBERS, MANIFEST])
@pytest.mark.parametrize("harm", ["cut", "flip", "lose"])
def test_a_damaged_one_is_passed_over(tmp_path: Path, name: str, harm: str) -> None:
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1)
    save(checkpoints, 2)
    file = tmp_path / "step-000000002" / name
    data = file.read_bytes()
    if harm == "lose":
        file.unlink()
    else:
        file.write_bytes(data[:-3] if harm == "cut" else bytes([data[0] ^ 1]) + data[1:])
    newest = checkpoints.newest()
    assert newest is not None
    assert newest.step == 1


def test_a_leftover_of_a_crash_is_swept(tmp_path: Path) -> None:
    (tmp_path / ".staging-dead").mkdir()
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.newest() is None
    save(checkpoints, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001"]


def test_a_full_or_forbidden_disk_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot write a checkpoint"):
        save(Checkpoints(tmp_path / "file"), 1)


@pytest.mark.timeout(120)
def test_killed_at_random_steps_a_lane_ends_where_an_undisturbed_one_does(tiny_base_dir: Path, tmp_path: Path) -> None:
    script = Path(__file__).with_name("killing.py")
    command = [sys.executable, str(script), str(tiny_base_dir), str(tmp_path)]
    environ = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["kills"] >= 3
    assert told["killed"] == told["whole"]
