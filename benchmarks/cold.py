"""An adapter that only the directory store holds: `python -m benchmarks.cold PLAN`.

Added time: resolve, fetch, verify, load and answer, against the same request once the adapter is in memory; median
over adapters never used before, on an otherwise idle engine, and again beside running rows. Disturbance: the gaps
between the tokens of running rows that overlap a load, against the gaps of the same rows while nothing is loaded.
"""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from benchmarks import fleet
from benchmarks.drive import Job, Stream, submit
from benchmarks.peers.protocol import say, told
from serving.adapter import LoadedAdapter
from serving.gateway.gateway import Gateway
from serving.lease import Lease

PROMPT = 16
ROWS = 8
PHASE_S = 5.0
PAUSE_S = 0.1
LONG = 2000

Span = tuple[float, float]


PROBES, FEW_PROBES = 24, 4
IS_LOADING = (False, True, True, False)
"""Phase by phase: rows get slower as they grow, in both kinds alike."""


class Bench:
    """A gateway and a supply of adapters that nobody has asked for."""

    def __init__(self, gateway: Gateway, count: int) -> None:
        self.gateway = gateway
        self.unused: Iterator[int] = iter(range(count))
        self._rng = random.Random(5)
        self._serial = 0

    def lease(self, name: str) -> Lease:
        digest = self.gateway.home.catalog.choose(name).digest
        assert digest is not None
        return self.gateway.residency.acquire(digest)

    def start(self, adapter: LoadedAdapter | None, answer: int) -> Stream:
        vocab_size = self.gateway.base.profile.vocab_size
        prompt = tuple(self._rng.randrange(100, vocab_size) for _ in range(PROMPT))
        self._serial += 1
        return submit(self.gateway.engine, f"cold-{self._serial}", Job(None, prompt, answer), adapter)

    def added_time(self, probes: int) -> list[float]:
        """Seconds that being cold added to each first token."""
        added = []
        for _ in range(probes):
            name = fleet.name(next(self.unused))
            cold, warm = self.first_token(name), self.first_token(name)
            added.append(cold - warm)
        return added

    def first_token(self, name: str) -> float:
        asked = time.perf_counter()
        with self.lease(name) as lease:
            return self.start(lease.adapter, 1).wait().times[0] - asked

    def load_for(self, seconds: float) -> list[Span]:
        """Load one unused adapter after the other; when each load ran."""
        spans, until = [], time.perf_counter() + seconds
        while time.perf_counter() < until:
            asked = time.perf_counter()
            self.lease(fleet.name(next(self.unused))).release()
            spans.append((asked, time.perf_counter()))
            time.sleep(PAUSE_S)
        return spans


class Running:
    """Rows that decode all the while, each with an adapter of its own."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._leases = [bench.lease(fleet.name(next(bench.unused))) for _ in range(ROWS)]
        self._streams: list[Stream] = []
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._keep_going, args=(lease,)) for lease in self._leases]

    def __enter__(self) -> Running:
        for thread in self._threads:
            thread.start()
        time.sleep(1.0)
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for stream in self._streams:
            self._bench.gateway.engine.abort(stream.id)
        for thread in self._threads:
            thread.join()
        for lease in self._leases:
            lease.release()

    def gaps(self) -> list[Span]:
        return [gap for stream in self._streams for gap in pairwise(list(stream.times))]

    def _keep_going(self, lease: Lease) -> None:
        while not self._done.is_set():
            stream = self._bench.start(lease.adapter, LONG)
            self._streams.append(stream)
            stream.ended.wait()


def during(gaps: Sequence[Span], spans: Sequence[Span]) -> list[float]:
    """The lengths of the gaps that overlap any of the spans."""
    return [stop - start for start, stop in gaps if any(start < end and stop > begin for begin, end in spans)]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share does not exceed."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def find(bench: Bench, probes: int) -> dict[str, float]:
    bench.added_time(1)
    idle = bench.added_time(probes)
    quiet: list[Span] = []
    loads: list[Span] = []
    with Running(bench) as running:
        for is_loading in IS_LOADING:
            if is_loading:
                loads += bench.load_for(PHASE_S)
                continue
            began = time.perf_counter()
            time.sleep(PHASE_S)
            quiet.append((began, time.perf_counter()))
        busy = bench.added_time(probes // 2)
        gaps = running.gaps()
    calm, disturbed = during(gaps, quiet), during(gaps, loads)
    return {
        "added_ms": 1e3 * statistics.median(idle),
        "added_beside_rows_ms": 1e3 * statistics.median(busy),
        "load_ms": 1e3 * statistics.median(stop - start for start, stop in loads),
        "loads": len(loads),
        "rows": ROWS,
        "quiet_p50_ms": 1e3 * percentile(calm, 0.5),
        "quiet_p99_ms": 1e3 * percentile(calm, 0.99),
        "loading_p50_ms": 1e3 * percentile(disturbed, 0.5),
        "loading_p99_ms": 1e3 * percentile(disturbed, 0.99),
        "p99_ratio": percentile(disturbed, 0.99) / percentile(calm, 0.99),
    }


def main() -> None:
    plan = told()
    count = fleet.SMALL if plan["quick"] else fleet.SIZE
    adapters = [Path(path) for path in plan["adapters"]]
    with fleet.gateway(Path(plan["work"]), adapters, plan["threads"], count, lambda line: say(note=line)) as gateway:
        say(measure=find(Bench(gateway, count), FEW_PROBES if plan["quick"] else PROBES))


if __name__ == "__main__":
    main()
