"""The registry's own operations beside MLflow's, in one run: `python -m benchmarks.registry [report]`.

    python -m benchmarks.registry                             in a directory
    python tests/rgw.py -- python -m benchmarks.registry      and in a bucket, where the settings name one

Only the registries are timed: ours commits events without blobs (to disk: synced), MLflow 3 registers versions without
artifacts in files and in sqlite. Ours is measured before and after the peers, and the slower counts. Writes
results/registry.json and its section of README.md; `report` writes the section again.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from benchmarks.machine import describe, load_average
from benchmarks.peers.environment import Environment
from benchmarks.registry.counting import Counted, CountedBucket
from benchmarks.registry.operations import MODELS, ROUNDS, Found, measure
from benchmarks.registry.report import BUCKET, DIRECTORY, FILES, SQLITE, Results, rewrite_readme
from benchmarks.results import FOLDER
from registry.directory import DirectoryStore
from registry.errors import LorimerError
from registry.settings import load_settings
from registry.ulid import ulid

MLFLOW = Environment("mlflow", ("mlflow==3.17.2",), constrained=False)
PEER = Path(__file__).with_name("mlflow_peer.py")
LATEST = FOLDER / "registry.json"
TIMEOUT_S = 100.0


def ours(work: Path) -> dict[str, Found]:
    """One pass over every store there is; each begins in an empty place."""
    place = ulid(time.time())
    found = {DIRECTORY: measure(Counted(DirectoryStore(work / place)))}
    settings = load_settings()
    if settings.store.startswith("s3://"):
        bucket = CountedBucket(settings, place)
        try:
            found[BUCKET] = measure(bucket)
        finally:
            bucket.clear()
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


def run(work: Path) -> Results:
    load_before, failures = load_average(), dict[str, str]()
    before, peers = ours(work), dict[str, dict[str, float]]()
    for name, uri in ((SQLITE, f"sqlite:///{work}/m.db"), (FILES, f"file://{work}/files")):
        try:
            peers[name] = medians(mlflow(uri), 1000)
        except (LorimerError, subprocess.TimeoutExpired) as error:
            failures[name] = str(error)
    after = ours(work)
    if BUCKET not in before:
        failures[BUCKET] = "the settings name no bucket"
    return Results(
        date=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        machine=describe(),
        load_before=load_before,
        load_after=load_average(),
        rounds=ROUNDS,
        models=MODELS,
        median_ms={name: slower(before[name].seconds, after[name].seconds, 1000) for name in before} | peers,
        requests={name: slower(before[name].requests, after[name].requests) for name in before},
        failures=failures,
    )


def medians(found: Mapping[str, Sequence[float]], factor: float = 1) -> dict[str, float]:
    return {name: round(factor * statistics.median(values), 2) for name, values in found.items()}


def slower(
    one: Mapping[str, Sequence[float]], other: Mapping[str, Sequence[float]], factor: float = 1
) -> dict[str, float]:
    """Operation by operation, the larger of the two medians."""
    first, second = medians(one, factor), medians(other, factor)
    return {name: max(first[name], second[name]) for name in first}


def main(arguments: Sequence[str]) -> int:
    if arguments == ["report"]:
        results = msgspec.json.decode(LATEST.read_bytes(), type=Results)
    else:
        with tempfile.TemporaryDirectory() as work:
            results = run(Path(work))
        LATEST.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
    rewrite_readme(results)
    sys.stdout.write(LATEST.read_text())
    return 3 if results.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
