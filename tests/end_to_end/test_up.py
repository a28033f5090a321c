"""`lorimer up` as the README shows it: push, ask, promote, roll back, stop; every line typed as a user types it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import MakeAdapter


class Shell:
    """Runs `lorimer` in one folder with one environment."""

    def __init__(self, folder: Path, base: Path) -> None:
        self.folder = folder
        self.environ = os.environ | {
            "LORIMER_STORE": f"file://{folder}/store",
            "LORIMER_BASE": str(base),
            "LORIMER_CACHE_DIR": str(folder / "cache"),
            "LORIMER_DTYPE": "float32",
            "LORIMER_KV_TOKENS": "8192",
            "LORIMER_THREADS": "1",
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "lorimer", *arguments, "--json"]
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self, *arguments: str) -> dict[str, Any]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, out + err
        return dict(json.loads(out))


@pytest.fixture
def shell(tmp_path: Path, tiny_base_dir: Path) -> Shell:
    return Shell(tmp_path, tiny_base_dir)


@pytest.fixture
def url(shell: Shell) -> Iterator[str]:
    """A running `lorimer up`, which must end with exit code 0 on SIGTERM."""
    process = shell.start("up", "--port", "0")
    assert process.stdout is not None
    started = process.stdout.readline()
    assert started, process.communicate()[1]
    yield json.loads(started)["url"]
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "Traceback" not in err


@pytest.mark.slow
def test_push_ask_promote_and_roll_back(shell: Shell, url: str, make_adapter: MakeAdapter) -> None:
    def ask() -> str:
        body = {"model": "support", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4, "temperature": 0}
        response = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)
        assert response.status_code == 200, response.text
        return response.headers["x-adapter-digest"]

    first = shell.run("registry", "push", str(make_adapter(4, 1)), "support", "--alias", "prod")
    assert ask() == first["digest"]
    second = shell.run("registry", "push", str(make_adapter(8, 2)), "support")
    assert ask() == first["digest"]
    shell.run("registry", "alias", "support", "prod", "v2")
    assert ask() == second["digest"]
    shell.run("registry", "rollback", "support")
    assert ask() == first["digest"]
    drift = httpx.get(f"{url}/api/drift").json()["adapters"]
    assert [status["adapter"] for status in drift] == ["support"]
    assert httpx.get(f"{url}/ready").status_code == 200


@pytest.mark.slow
@pytest.mark.usefixtures("url")
def test_a_second_one_on_the_same_port_says_so_in_one_line(shell: Shell, url: str) -> None:
    process = shell.start("up", "--port", url.rpartition(":")[2])
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "is taken" in json.loads(out)["message"]
    assert "Traceback" not in err
