"""Random interleavings of commits, compactions, sweeps and lists, operation by operation, against the logs themselves.

One seed is one order of events: `python -m tests.registry.test_catalog_order SEED` plays it again.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec
import pytest

from registry import parallel, store, ulid
from registry.adapters import Registry
from registry.catalog_compaction import OVERDUE_S
from registry.errors import Conflict, NotFound, Unavailable
from registry.log import Event
from registry.manifest import BaseIdentity, FileEntry, Manifest
from registry.ops import MoveAlias, Op, Publish, SetPolicy
from registry.summary import AdapterSummary, summarise
from registry.versions import AdapterState, fold
from tests.registry.conftest import FakeClock
from tests.registry.stores import MemoryStore
from tests.registry.turns import Turns, TurnStore

SEEDS = 400
BLOCK = 50
ADAPTERS = ("a", "a-b", "b.c")
BASE = BaseIdentity(id="base", weights_sha256="w", tokenizer_sha256="t", template_sha256="c", shape_sha256="s")
EVENT = msgspec.json.Decoder(Event[Op])


class World:
    """A store that keeps the truth, and actors that know only each other's objects in it."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.truth = MemoryStore()
        self.clock = FakeClock()
        self.turns = Turns(self.rng, trouble=self.rng.choice((0.0, 0.05, 0.3)), kill=self.rng.choice((0.0, 0.0, 0.01)))
        self.jumps = self.rng.choice((0.0, 0.02, 0.1))
        self.num_lists = 0

    def play(self) -> None:
        kinds = (self.writer, self.writer, self.lister, self.compactor)
        actors = [self.rng.choice(kinds) for _ in range(self.rng.randint(3, 6))]
        self.turns.run(self.writer, self.lister, self.compactor, *actors, between=self.pass_time)
        for failure in self.turns.failures:
            raise failure
        self.turns.kill = self.turns.trouble = 0.0
        self.turns.run(self.lister, self.compactor, self.lister)
        for failure in self.turns.failures:
            raise failure

    def registry(self) -> Registry:
        return Registry(TurnStore(self.truth, self.turns), clock=self.clock, actor="test")

    def writer(self) -> None:
        registry = self.registry()
        for _ in range(self.rng.randint(1, 4)):
            with suppress(Conflict, NotFound, Unavailable):  # aborted, or an outcome that nobody acknowledged
                registry.commit(
                    self.rng.choice(ADAPTERS), self.rng.choice((publish, promote, decide))(self.rng), create=True
                )

    def lister(self) -> None:
        registry = self.registry()
        for _ in range(self.rng.randint(1, 3)):
            with suppress(Unavailable):
                self.turns.wait()
                before = {adapter: len(self.log_of(adapter)) for adapter in ADAPTERS}
                self.check(registry.list(), before)
                self.num_lists += 1

    def compactor(self) -> None:
        registry = self.registry()
        for _ in range(self.rng.randint(1, 3)):
            with suppress(Unavailable):
                if self.rng.random() < 0.15:
                    registry.catalog.rebuild()
                else:
                    registry.catalog.compact()

    def pass_time(self) -> None:
        if self.rng.random() < self.jumps:
            self.clock.now += self.rng.choice((1.0, 2 * OVERDUE_S))

    def log_of(self, adapter: str) -> list[Event[Op]]:
        return [EVENT.decode(self.truth.get(key)) for key in self.truth.list(f"t/default/a/{adapter}/log/")]

    def check(self, rows: Sequence[AdapterSummary], before: dict[str, int]) -> None:
        """Every row is a state that its adapter really had, and none older than when the list began."""
        found = {row.adapter: row for row in rows}
        assert [*found] == sorted(found)
        assert len(found) == len(rows)
        for adapter, num_events in before.items():
            events = self.log_of(adapter)
            least = row_of(adapter, events[:num_events])
            if adapter not in found:
                assert least is None, f"{adapter} is missing"
                continue
            row = found[adapter]
            assert row.events >= num_events, f"{adapter} is as of {row.events} of {num_events} events"
            assert row == row_of(adapter, events[: row.events])


def row_of(adapter: str, events: Sequence[Event[Op]]) -> AdapterSummary | None:
    state = AdapterState(tenant="default", adapter=adapter)
    for event in events:
        state = fold(state, event)
    return summarise(state, len(events))


Change = Callable[[AdapterState], Sequence[Op]]


def publish(rng: random.Random) -> Change:
    manifest = Manifest(
        files=(FileEntry(path="f", sha256=f"{rng.getrandbits(256):064x}", size=1),),
        method="lora",
        rank=1,
        alpha=1.0,
        targets=(),
        base=BASE,
        metrics={"accuracy": rng.random()},
        tags={"team": rng.choice("xyz")},
    )
    digest = f"sha256:{rng.getrandbits(256):064x}"
    return lambda _: [Publish(digest=digest, manifest=manifest, loc={})]


def promote(rng: random.Random) -> Change:
    alias, place = rng.choice(("prod", "canary")), rng.random()

    def decide(state: AdapterState) -> Sequence[Op]:
        if not state.versions:
            raise NotFound("nothing to promote")
        chosen = state.versions[int(place * len(state.versions))]
        return [MoveAlias(name=alias, to={chosen.digest: 1.0})]

    return decide


def decide(rng: random.Random) -> Change:
    policy = {"min_examples": rng.randint(1, 3)}
    return lambda state: [] if state.policy == policy else [SetPolicy(policy=policy)]


@pytest.fixture(autouse=True)
def in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """No threads but the actors', no patience: little retrying, and notices swept as soon as they are covered."""
    monkeypatch.setattr(parallel, "THREADS", 1)
    monkeypatch.setattr(store, "RETRY_DELAYS_S", (0.0,) * 3)
    monkeypatch.setattr("registry.catalog_compaction.OVERLAY", 1)
    monkeypatch.setattr("registry.catalog_compaction.STANDING", 2)
    monkeypatch.setattr("registry.catalog_compaction.LINGER_S", -1.0)


@pytest.mark.parametrize("first", range(0, SEEDS, BLOCK))
def test_no_list_misses_what_was_there_when_it_began(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(first, first + BLOCK):
        play(seed, monkeypatch)


def play(seed: int, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(seed)
    names = random.Random(seed)
    monkeypatch.setattr(ulid, "_system", names)
    monkeypatch.setattr(random, "SystemRandom", lambda: names)
    try:
        world.play()
    except BaseException:
        print(f"python -m tests.registry.test_catalog_order {seed}")  # noqa: T201 the way back to this order
        raise
    return world


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch:
        in_order.__wrapped__(patch)  # type: ignore[attr-defined]
        play(int(sys.argv[1]), patch)
