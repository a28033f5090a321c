"""One gateway in a process of its own, with API keys, and real client programs that are pointed at it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from registry.adapters import Registry
from registry.keys import SCOPES, Grants, KeyLog, Limits
from registry.settings import Settings
from registry.store import open_store
from serving.base import Base
from tests.clients.environments import environment
from tests.gateway.conftest import publisher

REPOSITORY = Path(__file__).parents[2]
SCRIPTS = Path(__file__).parent / "scripts"
RUN_S = 120

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@dataclass(frozen=True)
class Served:
    """Where the gateway listens, and what clients need to know of it."""

    url: str
    base: str
    key: str
    limited_key: str
    """It has one place at a time."""
    http: httpx.Client
    folder: Path

    def environ(self, **more: str) -> dict[str, str]:
        """What examples and scripts read; nothing of ours that would lead a client astray."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("LORIMER_", "PYTHON"))}
        ours = {"LORIMER_URL": self.url, "LORIMER_API_KEY": self.key, "LORIMER_BASE_MODEL": self.base}
        return {**kept, "HOME": str(self.folder), "LITELLM_LOCAL_MODEL_COST_MAP": "true", **ours, **more}

    def answer(self, model: str, content: str, max_tokens: int) -> str:
        """What the gateway says to plain HTTP, to hold a client's answer against."""
        body = {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": max_tokens}
        response = self.http.post("/v1/chat/completions", json={**body, "temperature": 0})
        assert response.status_code == 200, response.text
        return str(response.json()["choices"][0]["message"]["content"])


@pytest.fixture(scope="session")
def served(tiny_base: Base, tiny_base_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`lorimer serve` on the tiny base, with the adapters `support` (two versions) and `formal`."""
    folder = tmp_path_factory.mktemp("served")
    store = f"file://{folder}/store"
    registry = Registry(open_store(store), actor="tests")
    registry.init()
    registry.register_base(tiny_base.profile)
    publish = publisher(registry, tiny_base, folder / "made")
    for seed, name in enumerate(("support", "support", "formal"), start=1):
        publish(name, seed)
    key, limited_key = _keys(registry)
    command = [sys.executable, "-m", "lorimer", "serve", "--port", "0", "--json"]
    environ, log = _environ(store, tiny_base_dir, folder), folder / "log"
    with (
        log.open("w") as written,
        subprocess.Popen(
            command, cwd=REPOSITORY, env=environ, stdout=subprocess.PIPE, stderr=written, text=True
        ) as process,
    ):
        assert process.stdout is not None
        told = process.stdout.readline()
        assert told, log.read_text()
        known = json.loads(told)
        try:
            with httpx.Client(base_url=known["url"], headers={"authorization": f"Bearer {key}"}, timeout=60) as http:
                yield Served(known["url"], known["base"], key, limited_key, http, folder)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)
    assert process.returncode == 0, log.read_text()
    assert "Traceback" not in log.read_text(), log.read_text()


@pytest.fixture
def worker(served: Served, tiny_base_dir: Path, tmp_path: Path) -> Iterator[None]:
    """`lorimer worker` beside the gateway."""
    environ, log = _environ(f"file://{served.folder}/store", tiny_base_dir, served.folder), tmp_path / "log"
    command = [sys.executable, "-m", "lorimer", "worker"]
    with log.open("w") as written, subprocess.Popen(command, cwd=REPOSITORY, env=environ, stderr=written) as process:
        yield
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
    assert process.returncode == 0, log.read_text()
    assert "Traceback" not in log.read_text(), log.read_text()


def _keys(registry: Registry) -> tuple[str, str]:
    keys, scopes = KeyLog.of(registry), frozenset(SCOPES)
    _, key = keys.create(Grants(name="all", tenant=registry.tenant, scopes=scopes))
    limits = Limits(concurrency=1)
    _, limited = keys.create(Grants(name="limited", tenant=registry.tenant, scopes=scopes, limits=limits))
    return key, limited


def _environ(store: str, base: Path, folder: Path) -> dict[str, str]:
    named = {
        "store": store,
        "base": str(base),
        "cache_dir": str(folder / "cache"),
        "dtype": "float32",
        "kv_tokens": "8192",
        "threads": "1",
        "vllm_metric_aliases": "true",
    }
    assert named.keys() <= set(Settings.__struct_fields__)
    return {**os.environ, **{f"LORIMER_{name.upper()}": value for name, value in named.items()}}


@pytest.fixture
def run(served: Served, tmp_path: Path) -> Run:
    """run("openai", path, ...) -> what came of it: a script in a client's environment, pointed at the gateway."""

    def start(client: str, script: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        programs = environment(client)
        told = served.environ(**environ)
        if script.suffix == ".py":
            command = [str(programs / "python"), str(script)]
        elif script.suffix == ".mjs":
            beside = programs / script.name  # node looks for packages beside the script
            beside.write_text(script.read_text())
            command = ["node", str(beside)]
        else:
            told["PATH"] = f"{programs}:{told['PATH']}"
            command = ["sh", str(script)]
        return subprocess.run(
            [*command, *arguments], cwd=tmp_path, env=told, capture_output=True, text=True, check=False, timeout=RUN_S
        )

    return start


@pytest.fixture
def passes(run: Run) -> Callable[..., Any]:
    """As `run`, of a script of tests/clients/scripts/ that asserts by itself; what it printed."""

    def start(client: str, script: str, *arguments: str, **environ: str) -> str:
        done = run(client, SCRIPTS / script, *arguments, **environ)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return start
