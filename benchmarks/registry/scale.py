"""How long a list of very many adapters takes, and how many requests: the index filled with made-up rows.

    python -m benchmarks.registry.scale                                   100,000 adapters in a directory
    python tests/rgw.py -- python -m benchmarks.registry.scale --store s3://lorimer/scale

Rows are made up because 100,000 logs take hours to write; that rows equal what the logs say is for the tests.
Some adapters then really change, so that there is something newer than the index. Every list is by a fresh
registry, as another process would have it. Exits 1 beyond the bars.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time

from benchmarks.registry.counting import Counted
from registry.adapters import Registry
from registry.catalog_reader import CatalogReader, Cover
from registry.settings import load_settings
from registry.store import Store, store_of
from registry.summary import AdapterSummary, Bound, Filter

BAR_S = 2.0
BAR_REQUESTS = 30
CHANGED = 4
WANTED = Filter(name="team-07.*", alias="prod", tags={"language": "de"}, metrics=(Bound.parse("accuracy>=0.5"),))


def row(number: int, rng: random.Random) -> AdapterSummary:
    return AdapterSummary(
        adapter=f"team-{number % 50:02d}.adapter-{number:06d}",
        events=rng.randint(1, 9),
        num_versions=3,
        latest=3,
        aliases={"prod": rng.randint(1, 3)} | ({"canary": 3} if number % 2 else {}),
        base="HuggingFaceTB/SmolLM2-135M-Instruct",
        method=rng.choice(("lora", "dora", "ia3")),
        tags={"language": rng.choice(("de", "en", "fr"))},
        metrics={"accuracy": rng.random(), "loss": 3 * rng.random()},
        updated_at=1.7e9 + number,
    )


def fill(registry: Registry, num_adapters: int) -> None:
    """An index of made-up rows, then a few real changes beside it."""
    rng = random.Random(0)
    rows = {each.adapter: each for each in (row(number, rng) for number in range(num_adapters))}
    reader = CatalogReader(registry.store, registry.tenant, registry.adapter_log, registry.clock)
    n = reader.log.position().n + 1
    reader.log.append([Cover(segments=reader.segments.extended((), rows, n), covered=())])
    for number in range(CHANGED):
        registry.set_policy(f"changed-{number}", {"min_examples": number + 1})


def measure(store: Store, wanted: Filter) -> dict[str, float]:
    counted = Counted(store)
    registry = Registry(counted, actor="benchmark")
    begun = time.perf_counter()
    found = registry.list(wanted)
    seconds = time.perf_counter() - begun
    return {"adapters": len(found), "seconds": round(seconds, 3), "requests": counted.requests}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", help="An empty place; without it, a directory made for this.")
    parser.add_argument("--adapters", type=int, default=100_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = store_of(load_settings({"store": arguments.store or f"file://{folder}"}))
        fill(Registry(store, actor="benchmark"), arguments.adapters)
        found = {"everything": measure(store, Filter()), "filtered": measure(store, WANTED)}
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    passed = all(each["seconds"] <= BAR_S and each["requests"] <= BAR_REQUESTS for each in found.values())
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
