"""The registry's own operations beside MLflow's, in one run: `python -m benchmarks.registry`.

Only the registries are timed: ours commits events without blobs to a directory (synced to disk), MLflow 3 registers
versions without artifacts in files and in sqlite. Writes results/registry.json; medians in milliseconds.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.machine import describe, load_average
from benchmarks.peers.environment import Environment
from benchmarks.results import FOLDER
from registry.adapters import Registry
from registry.directory import DirectoryStore
from registry.errors import LorimerError
from registry.manifest import BaseIdentity, FileEntry, Manifest
from registry.ops import Publish

MLFLOW = Environment("mlflow", ("mlflow==3.17.2",), constrained=False)
PEER = Path(__file__).with_name("mlflow_peer.py")
ROUNDS, MODELS = 20, 200
TIMEOUT_S = 100.0
BASE = BaseIdentity(id="base", weights_sha256="w", tokenizer_sha256="t", template_sha256="c", shape_sha256="s")


def version(number: int) -> Publish:
    files = (FileEntry(path="adapter_model.safetensors", sha256=f"{number:064x}", size=1),)
    manifest = Manifest(files=files, method="lora", rank=8, alpha=16.0, targets=("q_proj",), base=BASE)
    return Publish(digest=f"sha256:{number:064x}", manifest=manifest, loc={})


def timed(rounds: int, act: Callable[[int], object]) -> list[float]:
    seconds = []
    for number in range(rounds):
        begun = time.perf_counter()
        act(number)
        seconds.append(time.perf_counter() - begun)
    return seconds


def ours(folder: Path) -> dict[str, list[float]]:
    registry = Registry(DirectoryStore(folder), actor="benchmark")

    def publish(name: str, number: int) -> None:
        registry.commit(name, lambda _: [version(number)], create=True)

    found = {
        "publish": timed(ROUNDS + 2, lambda number: publish("a", number)),
        "alias": timed(ROUNDS + 1, lambda number: registry.alias("a", "prod", f"v{number + 2}")),
        "resolve": timed(ROUNDS, lambda _: registry.resolve("a@prod")),
        "rollback": timed(ROUNDS, lambda _: registry.rollback("a")),
    }
    for number in range(MODELS):
        publish(f"model-{number:05d}", number)
    registry.list()
    found["list"] = timed(3, lambda _: registry.list())
    return found


def mlflow(uri: str) -> dict[str, list[float]]:
    command = [str(MLFLOW.make(print)), str(PEER), uri, str(ROUNDS), str(MODELS)]
    environment = os.environ | {"MLFLOW_ALLOW_FILE_STORE": "true"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, cwd=MLFLOW.root, env=environment
    )
    if done.returncode:
        raise LorimerError(f"MLflow on {uri} failed", hint=done.stderr[-500:])
    found: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> int:
    failures: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as work:
        medians = {"lorimer": ours(Path(work) / "ours")}
        for name, uri in (("mlflow sqlite", f"sqlite:///{work}/m.db"), ("mlflow files", f"file://{work}/files")):
            try:
                medians[name] = mlflow(uri)
            except (LorimerError, subprocess.TimeoutExpired) as error:
                failures[name] = str(error)
    milliseconds = {
        name: {verb: round(1000 * statistics.median(seconds), 2) for verb, seconds in each.items()}
        for name, each in medians.items()
    }
    record = {
        "machine": describe(), "load": load_average(), "rounds": ROUNDS, "models": MODELS,
        "median_ms": milliseconds, "failures": failures,
    }  # fmt: skip
    text = json.dumps(record, indent=1) + "\n"
    (FOLDER / "registry.json").write_text(text)
    sys.stdout.write(text)
    return 3 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
