"""`make bench`: the engine beside PEFT's mixed batches, same base, same cases, same machine, one run.

Exit code 1 if the engine is not at least four times as fast where every row has an adapter of its own.
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


def main() -> int:
    settings = load_settings({"base": "smollm2-135m", "dtype": "bfloat16"})
    print("ours:", file=sys.stderr)
    base = load_base(settings, lambda line: print(line, file=sys.stderr))
    engine = Engine.from_settings(base, settings)
    ours = measure(engine)
    engine.close()
    print("peft:", file=sys.stderr)
    directory = locate(settings.base, settings.cache_path(), lambda _: None).directory
    theirs = peft(str(directory), CASES)
    print(f"\n{'tokens/s':<34}{'lorimer':>10}{'peft':>10}{'ratio':>8}")
    for result in ours:
        ratio = result.tokens_per_s / theirs[result.case]
        print(f"{result.case:<34}{result.tokens_per_s:>10,.0f}{theirs[result.case]:>10,.0f}{ratio:>8.1f}")
    bar = next(result.tokens_per_s / theirs[result.case] for result in ours if result.case == BAR_CASE)
    print(f"\n{BAR_CASE}: {bar:.1f} times PEFT; the bar is {BAR:.0f}: {'passed' if bar >= BAR else 'FAILED'}")
    return 0 if bar >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
