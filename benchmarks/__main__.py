"""`make bench`: the engine beside PEFT's mixed batches, same base, same cases, same machine, one run.

The decisive case is measured before and after the peer, since the machine may have become busier, and the slower of the
two counts. Exit code 1 if that is not at least four times PEFT.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict

import torch

from benchmarks.peers.environment import HERE, python_with
from registry.settings import load_settings
from serving.base import load_base
from serving.bench import CASES, Case, measure
from serving.engine import Engine
from serving.source import locate

BAR = 4.0
BAR_CASE = "decode, 16 rows, 16 adapters"
PEER_PACKAGES = ("torch", "transformers", "peft", "accelerate", "safetensors")


def peft(directory: str, cases: tuple[Case, ...]) -> dict[str, float]:
    python = python_with("peft", PEER_PACKAGES)
    arguments = [directory, json.dumps([asdict(case) for case in cases]), str(torch.get_num_threads())]
    script = HERE / "peft_generate.py"
    done = subprocess.run([str(python), str(script), *arguments], check=True, stdout=subprocess.PIPE, text=True)
    rates: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return rates


def ours(cases: tuple[Case, ...]) -> dict[str, float]:
    settings = load_settings({"base": "smollm2-135m", "dtype": "bfloat16"})
    engine = Engine.from_settings(load_base(settings), settings)
    results = measure(engine, cases)
    engine.close()
    return {result.case: result.tokens_per_s for result in results}


def main() -> int:
    narrate("this engine")
    first = ours(CASES)
    narrate("PEFT")
    settings = load_settings({"base": "smollm2-135m"})
    directory = locate(settings.base, settings.cache_path(), narrate).directory
    theirs = peft(str(directory), CASES)
    narrate(f"this engine once more: {BAR_CASE}")
    again = ours(tuple(case for case in CASES if case.name == BAR_CASE))
    print(f"\n{'tokens/s':<34}{'lorimer':>10}{'peft':>10}{'ratio':>8}")
    for case, rate in first.items():
        print(f"{case:<34}{rate:>10,.0f}{theirs[case]:>10,.0f}{rate / theirs[case]:>8.1f}")
    print(f"{BAR_CASE + ', again':<34}{again[BAR_CASE]:>10,.0f}")
    ratio = min(first[BAR_CASE], again[BAR_CASE]) / theirs[BAR_CASE]
    print(f"\n{BAR_CASE}: {ratio:.1f} times PEFT; the bar is {BAR:.0f}: {'passed' if ratio >= BAR else 'FAILED'}")
    return 0 if ratio >= BAR else 1


def narrate(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
