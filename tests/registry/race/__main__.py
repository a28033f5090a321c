"""Everybody at once on a real store, killed at random; then the checker reads what is left.

python -m tests.registry.race --minutes 2                      on a Ceph gateway of its own
python -m tests.registry.race --minutes 0.2 --store file:///d
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import msgspec

from registry import gc
from registry.summary import summarise
from registry.versions import adapter_prefix
from tests import rgw
from tests.registry.folders import PROFILE, write_folder
from tests.registry.linear import Call, check
from tests.registry.race.arena import Arena
from tests.registry.race.worker import ADAPTERS, Place, live, read_calls

RACERS = {"publisher": 8, "promoter": 4, "collector": 2, "compactor": 2, "reader": 1, "browser": 1}
KEPT = 6
KILL_EVERY_S = 1.0


class Result(msgspec.Struct, kw_only=True):
    """Printed as JSON."""

    store: str
    seconds: float
    racers: int
    kills: int
    calls: dict[str, int]
    events: int
    published: int
    aborted: int
    live: int


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.registry.race", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--store", help="file:///dir or s3://bucket/prefix; default: a Ceph gateway started for this")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    chosen = parser.parse_args()
    with ExitStack() as stack:
        if chosen.store is None:
            os.environ.update(stack.enter_context(rgw.running()).environ())
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="race-")))
        url = chosen.store or os.environ["LORIMER_STORE"]
        place = Place(url, os.environ.get("LORIMER_S3_ENDPOINT"), work)
        prepare(place)
        arena = Arena(partial(live, place), random.Random(chosen.seed))
        sys.stderr.write(f"seed {chosen.seed}\n")
        for role, count in RACERS.items():
            for _ in range(count):
                arena.start(role)
        arena.race(60 * chosen.minutes, KILL_EVERY_S, tell)
        if arena.failed:
            sys.stderr.write("\n".join(["", *arena.failed, ""]))
            return 1
        result = judge(place, read_calls(place), 60 * chosen.minutes, arena.kills)
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(result)).decode() + "\n")
    return 0


def tell(left_s: float) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{left_s:5.0f} s to go ")
        sys.stderr.flush()


def prepare(place: Place) -> None:
    """A base, some folders, and adapters that keep their last versions only."""
    (place.work / "journals").mkdir()
    for seed in range(6):
        write_folder(place.work / "adapters" / str(seed), seed=seed)
    registry = place.open("prepare")
    registry.register_base(PROFILE)
    for adapter in ADAPTERS:
        registry.set_policy(adapter, {"retention": {"keep_last": KEPT}})


def judge(place: Place, calls: Sequence[Call], seconds: float, kills: int) -> Result:
    """AssertionError unless history is one line for each adapter, blobs are whole and the list is true."""
    registry = place.open("judge")
    published = aborted = events_seen = live_versions = 0
    for adapter in ADAPTERS:
        events = registry.log(adapter)
        line = check(events, [call for call in calls if call.adapter == adapter])
        registry.verify(adapter)
        state = registry.state(adapter)
        assert {version.digest: version.locations for version in state.versions} == line.live
        assert {alias: state.standing(alias) for alias in state.aliases} == line.aliases
        gc.collect(registry, [adapter], grace_s=0)
        folder = f"{adapter_prefix('default', adapter)}/blobs/"
        blobs = {key.removeprefix(folder) for key in registry.store.list(folder)}
        needed = {f"{sha256}.{tx}" for sha256, tx in registry.state(adapter).blobs()}
        assert blobs == needed, f"{adapter}: {len(blobs - needed)} blobs stay, {len(needed - blobs)} are missing"
        published, aborted = published + line.num_versions, aborted + len(line.aborted)
        events_seen, live_versions = events_seen + len(events), live_versions + len(line.live)
    positions = [place.open("list").adapter_log(adapter).position() for adapter in ADAPTERS]
    assert list(registry.list()) == [summarise(position.state, position.n) for position in positions]
    return Result(
        store=place.url,
        seconds=seconds,
        racers=sum(RACERS.values()),
        kills=kills,
        calls=dict(sorted(Counter(f"{call.verb} {call.outcome}" for call in calls).items())),
        events=events_seen,
        published=published,
        aborted=aborted,
        live=live_versions,
    )


if __name__ == "__main__":
    sys.exit(main())
