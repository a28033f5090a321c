"""`lorimer serve` as a person runs it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from registry.adapters import Registry
from registry.store import open_store
from serving.gateway.commands import serve


@pytest.fixture
def store(tmp_path: Path) -> str:
    url = f"file://{tmp_path}/store"
    Registry(open_store(url), actor="tests").init()
    return url


def test_an_open_bind_is_refused_in_one_line(store: str) -> None:
    done = CliRunner().invoke(serve, ["--host", "0.0.0.0", "--store", store])  # noqa: S104
    assert done.exit_code == 5
    assert "API keys" in done.stderr
    assert "Traceback" not in done.output


def test_a_taken_port_is_one_line(store: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        done = CliRunner().invoke(serve, ["--port", str(other.getsockname()[1]), "--store", store])
    assert done.exit_code == 1
    assert "is taken" in done.stderr
    assert "Traceback" not in done.output


def test_a_store_without_a_registry_says_what_to_do(tmp_path: Path) -> None:
    done = CliRunner().invoke(serve, ["--port", "0", "--store", f"file://{tmp_path}/nothing"])
    assert done.exit_code == 3
    assert "registry init" in done.stderr


@pytest.mark.slow
def test_sigterm_drains_and_exits_zero(store: str, tiny_base_dir: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from serving.gateway.commands import serve; serve()", "--port", "0"]
    environment = {
        **os.environ,
        "LORIMER_STORE": store,
        "LORIMER_BASE": str(tiny_base_dir),
        "LORIMER_CACHE_DIR": str(tmp_path / "cache"),
        "LORIMER_DTYPE": "float32",
        "LORIMER_KV_TOKENS": "8192",
    }
    process = subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )
    try:
        assert process.stderr is not None
        url = next(found[0] for line in process.stderr if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
        answers: list[httpx.Response] = []
        body = {"model": "tiny-llama", "prompt": "x", "max_tokens": 200, "ignore_eos": True}
        model = httpx.get(f"{url}/v1/models").json()["data"][0]["id"]
        ask = threading.Thread(
            target=lambda: answers.append(
                httpx.post(f"{url}/v1/completions", json={**body, "model": model}, timeout=60)
            )
        )
        ask.start()
        while "lorimer_running 1.0" not in httpx.get(f"{url}/metrics").text:
            assert ask.is_alive()
        process.send_signal(signal.SIGTERM)
        ask.join()
        rest = process.communicate(timeout=30)[1]
    finally:
        process.kill()
    assert answers[0].json()["usage"]["completion_tokens"] == 200
    assert process.returncode == 0
    assert "Traceback" not in rest
