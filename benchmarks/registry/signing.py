"""What signatures cost: the same alias moves and folds with rules and without, in memory, so that no store hides it.

    python -m benchmarks.registry.signing            1,000 events
    python -m benchmarks.registry.signing --json

Times are medians over events; the ratios of one run are what compares between machines.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from registry.adapters import Registry
from registry.trust import Trust
from tests.registry.people import People
from tests.registry.stores import MemoryStore


def timed(run: Callable[[], object]) -> float:
    """Seconds."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def moves(registry: Registry, count: int) -> float:
    """Seconds for one alias move."""
    return median(
        timed(lambda target=f"v{1 + number % 2}": registry.alias("support", "prod", target))  # type: ignore[misc]
        for number in range(count)
    )


def measure(count: int, work: Path) -> dict[str, float]:
    plain, signed = People(MemoryStore(), work / "plain"), People(MemoryStore(), work / "signed")
    signed.govern()
    open_writer, key_writer = plain.without_roots(), signed.as_("worker")
    for writer, people in ((open_writer, plain), (key_writer, signed)):
        for _ in range(2):
            writer.publish("support", people.folder())
    trust = Trust(None, signed.roots, work / "memory")
    found = {"move_s": moves(open_writer, count), "signed_move_s": moves(key_writer, count)}
    found["fold_s"] = timed(lambda: open_writer.adapter_log("support").verify()) / count
    found["signed_fold_s"] = timed(lambda: signed.as_().resolve("support")) / count
    Registry(signed.store, trust=trust).resolve("support")
    found["cold_with_memory_s"] = timed(lambda: Registry(signed.store, trust=trust).resolve("support"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        found = measure(asked.events, Path(work))
    if asked.json:
        sys.stdout.write(json.dumps(found) + "\n")
        return
    print(f"{'':24}{'open':>10}{'signed':>10}{'ratio':>8}")
    for name, one, other in (
        ("alias move", "move_s", "signed_move_s"),
        ("fold, each event", "fold_s", "signed_fold_s"),
    ):
        print(f"{name:24}{1e3 * found[one]:7.2f} ms{1e3 * found[other]:7.2f} ms{found[other] / found[one]:8.1f}")
    print(
        f"{f'cold, {asked.events} events':24}{'':10}{1e3 * found['cold_with_memory_s']:7.2f} ms   remembering the log"
    )


if __name__ == "__main__":
    main()
