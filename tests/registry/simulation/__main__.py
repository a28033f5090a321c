"""Many seeds, or one again with everything that happened in it.

python -m tests.registry.simulation --seeds 10000 [--first 0]
python -m tests.registry.simulation --seed 4711
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.registry.simulation.scenario import Scenario

AGAIN = "python -m tests.registry.simulation --seed"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.registry.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, help="this one only, traced")
    chosen = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets of strings is chance too
        os.execve(  # noqa: S606 no shell is wanted
            sys.executable,
            [sys.executable, "-m", "tests.registry.simulation", *sys.argv[1:]],
            os.environ | {"PYTHONHASHSEED": "0"},
        )
    with tempfile.TemporaryDirectory() as folder:
        scenario = Scenario(Path(folder))
        if chosen.seed is not None:
            sys.stdout.write("\n".join(scenario.run(chosen.seed, traced=True).trace or []) + "\n")
            return 0
        return many(scenario, range(chosen.first, chosen.first + chosen.seeds))


def many(scenario: Scenario, seeds: range) -> int:
    began = time.monotonic()
    steps = 0
    for seed in seeds:
        try:
            steps += scenario.run(seed).step
        except Exception:  # noqa: BLE001 whatever it is, it is a fault
            traceback.print_exc()
            sys.stderr.write(f"\nseed {seed} fails; again, with its trace: {AGAIN} {seed}\n")
            return 1
    took = time.monotonic() - began
    sys.stdout.write(f"{len(seeds)} seeds, {steps} steps in {took:.1f} s: no fault found\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
