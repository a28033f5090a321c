"""Eighteen processes on one registry, killed at random: a short race. The long one: `python -m tests.registry.race`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.registry.race.__main__ import RACERS
from tests.rgw import Rgw


def race(url: str, minutes: float, **environ: str) -> dict[str, int]:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.registry.race", "--minutes", str(minutes), "--store", url],
        capture_output=True,
        text=True,
        env=os.environ | environ | {"OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    result: dict[str, int] = json.loads(ran.stdout)
    assert result["racers"] == sum(RACERS.values())
    return result


def test_on_a_directory(tmp_path: Path) -> None:
    result = race(f"file://{tmp_path}/store", 0.05)
    assert result["published"] > 0
    assert result["kills"] > 0


@pytest.mark.s3
def test_on_a_ceph_gateway(rgw: Rgw) -> None:
    result = race(f"s3://{rgw.bucket}/race", 0.15, **rgw.environ())
    assert result["published"] > 0
    assert result["kills"] > 0
