"""Our engine on the speed cases, called as a library: `python -m benchmarks.ours PLAN [beside]`.

One contender among others. `beside`: a peer's rounds are run in turn with ours, so the cases are named from outside.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.materials import settings
from benchmarks.peers.protocol import Case as Told
from benchmarks.peers.protocol import Prompts, measure, obey, say, told
from registry.settings import Settings
from serving.adapter import LoadedAdapter
from serving.base import load_base
from serving.bench import Case, rate
from serving.engine import Engine


def chosen(given: Settings) -> str:
    return f"{given.dtype}, {given.threads} threads, {given.prefill_tokens} prompt tokens a step"


def main() -> None:
    plan = told()
    given = settings(plan["threads"])
    base = load_base(given)
    most = max(case["adapters"] for case in plan["cases"])
    adapters = [LoadedAdapter.from_directory(Path(path), base) for path in plan["adapters"][:most]]
    engine = Engine.from_settings(base, given)
    say(about={"settings": chosen(given)})

    def once(case: Told, prompts: Prompts) -> float:
        shape = Case(case["name"], case["rows"], case["adapters"], len(prompts[0]), case["answer"])
        return rate(engine, shape, prompts, adapters)

    (obey if "beside" in sys.argv[2:] else measure)(plan, once)
    engine.close()


if __name__ == "__main__":
    main()
