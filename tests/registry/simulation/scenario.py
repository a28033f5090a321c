"""One seed: a registry used by everybody at once in a simulated world, and what must be true of it then."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from registry import gc
from registry.adapters import Registry
from registry.consent import set_rules
from registry.rules import Rules
from registry.signing import new_key
from registry.summary import summarise
from registry.trust import Trust
from tests.registry.clients import Client
from tests.registry.folders import PROFILE, write_folder
from tests.registry.linear import Call, check
from tests.registry.simulation.watched import WatchedStore
from tests.registry.simulation.world import Process, Wire, World
from tests.registry.stores import MemoryStore

CASTS = (
    ("publisher", "promoter", "deleter", "collector", "collector", "compactor", "reader", "browser"),
    ("publisher", "deleter", "collector", "collector"),
    ("promoter", "browser", "browser", "compactor"),
)
ADAPTERS = ("x", "y")
CROWDED = ("x", "x", "x", "y")
STEPS = 3
SIGNED_EVERY = 100
"""Of so many seeds, one has a world in which every event is signed and every reader checks it."""


@dataclass(frozen=True)
class Start:
    """Adapter x has three versions, one of them served; `trust` is everybody's."""

    data: dict[str, bytes]
    trust: Trust


class Scenario:
    """What all seeds share: folders, and where a world begins: open to all, or only for those with the key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folders = [write_folder(folder / str(seed), seed=seed) for seed in range(4)]
        key = new_key(folder / "key")
        self._open = self._start(Trust())
        self._signed = self._start(Trust(key, frozenset({key.id})), Rules(keys={"all": key.id}, owners=("all",)))

    def _start(self, trust: Trust, rules: Rules | None = None) -> Start:
        store = MemoryStore()
        registry = Registry(store, clock=lambda: 1.6e9, trust=trust)
        registry.register_base(PROFILE)
        for adapter in ADAPTERS if rules else ():
            registry.commit(adapter, set_rules(rules), create=True)
        for number in range(3):
            registry.publish("x", self.folders[number], tags={"number": str(number)})
        registry.alias("x", "prod", "v2")
        return Start(store.data, trust)

    def run(self, seed: int, *, traced: bool = False) -> World:
        """AssertionError, or whatever else the registry raised that it should not, where this seed finds a fault."""
        start = self._open if seed % SIGNED_EVERY else self._signed
        store = WatchedStore(start.data)
        world = World(seed, store, trace=[] if traced else None)
        calls: dict[str, Call] = {}

        def record(call: Call) -> None:
            calls[call.id] = call
            world.say(call.id, f"{call.verb} {call.adapter} {call.outcome if call.ended else '...'} {call.said}")

        try:
            with _nothing_but(world), TemporaryDirectory(dir=self.folder) as memory:
                cast = world.rng.choice(CASTS)
                others = world.rng.sample(cast, world.rng.randrange(1, 1 + min(4, len(cast))))
                for number, role in enumerate(["publisher", *others]):
                    trust = replace(start.trust, remembers=Path(memory) / str(number))
                    world.spawn(f"{role}{number}", self._life(world, role, trust, record))
                world.run()
                self._check(store, start.trust, [*calls.values()])
        except BaseException as error:
            error.add_note("\n".join(world.trace or [f"seed {seed}"]))
            raise
        return world

    def _life(self, world: World, role: str, trust: Trust, record: Callable[[Call], None]) -> Callable[[Process], None]:
        done = 0

        def live(process: Process) -> None:
            nonlocal done
            lives = f"{process.name}.{done}"
            client = Client(
                name=lives,
                registry=Registry(Wire(process), clock=process.clock, actor=process.name, trust=trust),
                rng=world.rng,
                now=lambda: world.step,
                record=record,
                folders=self.folders,
                adapters=CROWDED,
            )
            while done < STEPS:
                done += 1
                client.step(role)

        return live

    def _check(self, store: WatchedStore, trust: Trust, calls: Sequence[Call]) -> None:
        """In the quiet afterwards: one history, whole blobs, a list that is true, and no garbage that stays."""
        registry = Registry(store, clock=lambda: 2e9, trust=trust)
        for adapter, events in store.events.items():
            line = check(events, [call for call in calls if call.adapter == adapter])
            state = registry.adapter_log(adapter).verify().state
            assert {version.digest: version.locations for version in state.versions} == line.live
            assert {alias: state.standing(alias) for alias in state.aliases} == line.aliases
        self._check_list(registry)
        gc.collect(registry, grace_s=0)
        for adapter in store.events:
            assert store.blobs(adapter) == store.lines[adapter].blobs(), f"{adapter}: garbage stays"
        registry.catalog.compact()
        self._check_list(Registry(store, clock=lambda: 2e9, trust=trust))

    def _check_list(self, registry: Registry) -> None:
        positions = {name: registry.adapter_log(name).position() for name in ADAPTERS}
        summaries = (summarise(position.state, position.n) for position in positions.values())
        assert list(registry.list()) == [summary for summary in summaries if summary is not None]


class _Dice(random.Random):
    """The seed's chance for the thread that made it; another's, left running by an earlier test, is the system's."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._thread = threading.get_ident()
        self._others = random.SystemRandom()

    def getrandbits(self, bits: int, /) -> int:
        mine = threading.get_ident() == self._thread
        return super().getrandbits(bits) if mine else self._others.getrandbits(bits)


@contextmanager
def _nothing_but(world: World) -> Iterator[None]:
    """Chance is the seed's, in this thread; waiting costs no time, and there are no threads."""
    with ExitStack() as stack:
        thread, system = threading.get_ident(), random.SystemRandom
        stack.enter_context(
            patch(
                "random.SystemRandom",
                lambda: random.Random(world.rng.random()) if threading.get_ident() == thread else system(),
            )
        )
        stack.enter_context(patch("registry.ulid._system", _Dice(world.seed)))
        stack.enter_context(patch("registry.store.RETRY_DELAYS_S", (0.0,) * 8))
        stack.enter_context(patch("registry.transfer.RETRY_DELAYS_S", (0.0,) * 3))
        stack.enter_context(patch("registry.catalog_compaction.LINGER_S", 0.0))
        stack.enter_context(patch("registry.catalog_compaction.OVERDUE_S", world.rng.choice((0.0, 5.0))))
        stack.enter_context(patch("registry.parallel.THREADS", 1))
        yield
