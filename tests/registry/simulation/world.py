"""A world in one thread: processes interleaved at every store operation, on a network that fails as the seed says.

Processes are greenlets; each store operation is a moment at which any other process may run, the process may stall
or die, and the request or its reply may be lost, late or doubled. Knows nothing of adapters or logs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from greenlet import greenlet

from registry.errors import Unavailable
from registry.store import Uncertain, write_atomically
from tests.registry.stores import MemoryStore

MAX_STEPS = 20_000
PAGE_KEYS = 3

Result = TypeVar("Result")


class Killed(BaseException):
    """`kill -9`: whoever catches this is not of this world any more; its store answers nothing else."""


@dataclass(frozen=True)
class Faults:
    """How likely each misfortune is, per store operation."""

    lost: float = 0.0
    """The request never arrives."""
    unheard: float = 0.0
    """It takes effect, the reply is lost."""
    late: float = 0.0
    """It takes effect after the sender has given up on it."""
    doubled: float = 0.0
    """It takes effect now, and once more later."""
    refused: float = 0.0
    """The store is known not to have heard it."""
    stalled: float = 0.0
    """The process sleeps through many steps of the others."""
    killed: float = 0.0

    @classmethod
    def of(cls, rng: random.Random) -> Faults:
        """Some seeds know every misfortune, some a few, some none but the order of things."""
        appetite = rng.choice((0.0, 0.02, 0.06))
        chances = [rng.choice((0.0, appetite)) for _ in range(7)]
        return cls(*chances[:5], stalled=2 * chances[5], killed=chances[6] / 2)


@dataclass
class World:
    seed: int
    store: MemoryStore
    step: int = 0
    trace: list[str] | None = None
    rng: random.Random = field(init=False)
    faults: Faults = field(init=False)
    _processes: list[Process] = field(default_factory=list)
    _under_way: list[tuple[int, str, Callable[[], object]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.faults = Faults.of(self.rng)

    def now(self) -> float:
        return 1_700_000_000.0 + self.step / 100

    def spawn(self, name: str, life: Callable[[Process], None]) -> None:
        self._processes.append(Process(self, name, life))

    def run(self) -> None:
        """Until every process has ended and everything under way has arrived."""
        while self._processes or self._under_way:
            self.step += 1
            assert self.step < MAX_STEPS, "this world does not come to rest"
            self._arrive()
            if awake := [process for process in self._processes if process.wakes <= self.step]:
                process = self.rng.choice(awake)
                process.run()
                if process.ended:
                    self._processes.remove(process)

    def happens(self, chance: float) -> bool:
        return chance > 0 and self.rng.random() < chance

    def send_later(self, what: str, effect: Callable[[], object]) -> None:
        self._under_way.append((self.step + self.rng.randrange(1, 200), what, effect))

    def say(self, who: str, what: str) -> None:
        if self.trace is not None:
            self.trace.append(f"{self.step:5d} {who:14s} {what}")

    def _arrive(self) -> None:
        for parcel in [parcel for parcel in self._under_way if parcel[0] <= self.step]:
            self._under_way.remove(parcel)
            self.say("network", f"late: {parcel[1]}")
            parcel[2]()


class Process:
    """One process and its successors: killed, it begins again with nothing but the store."""

    def __init__(self, world: World, name: str, life: Callable[[Process], None]) -> None:
        self.world = world
        self.name = name
        self.skew_s = world.rng.uniform(-3.0, 3.0)
        self.wakes = 0
        self._life = life
        self._greenlet = greenlet(self._live)

    @property
    def ended(self) -> bool:
        return self._greenlet.dead

    def run(self) -> None:
        self._greenlet.switch()

    def clock(self) -> float:
        """Processes do not agree on the time."""
        return self.world.now() + self.skew_s

    def pause(self) -> None:
        """Let the others live."""
        if self.world.happens(self.world.faults.stalled):
            self.wakes = self.world.step + self.world.rng.randrange(2, 300)
        parent = self._greenlet.parent
        assert parent is not None
        parent.switch()

    def _live(self) -> None:
        while True:
            try:
                self._life(self)
            except Killed:
                self.world.say(self.name, "killed")
            else:
                return


class Wire:
    """The store as one incarnation of one process sees it through the network."""

    url = "memory://simulated"

    def __init__(self, process: Process) -> None:
        self._process = process
        self._world = process.world
        self._dead = False

    def create(self, key: str, data: bytes) -> bool:
        return self._write(f"create {key}", lambda: self._world.store.create(key, data))

    def create_file(self, key: str, path: Path) -> bool:
        return self.create(key, path.read_bytes())

    def put(self, key: str, data: bytes) -> None:
        self._write(f"put {key}", lambda: self._world.store.put(key, data))

    def delete(self, key: str) -> None:
        self._write(f"delete {key}", lambda: self._world.store.delete(key))

    def get(self, key: str) -> bytes:
        return self._read(f"get {key}", lambda: self._world.store.get(key))

    def exists(self, key: str) -> bool:
        return self._read(f"exists {key}", lambda: self._world.store.exists(key))

    def chunks(self, key: str) -> Iterator[bytes]:
        yield self.get(key)

    def fetch(self, key: str, path: Path) -> None:
        write_atomically(path, self.chunks(key))

    def list(self, prefix: str, start_after: str = "") -> Iterator[str]:
        """Page by page, as S3 does: what is written meanwhile may or may not be seen."""
        while page := self._page(prefix, start_after):
            yield from page
            start_after = page[-1]

    def folders(self, prefix: str) -> Iterator[str]:
        yield from self._read(f"folders {prefix}", lambda: [*self._world.store.folders(prefix)])

    def _page(self, prefix: str, start_after: str) -> Sequence[str]:
        keys = self._read(f"list {prefix}", lambda: [*self._world.store.list(prefix, start_after)])
        return keys[:PAGE_KEYS]

    def _read(self, what: str, effect: Callable[[], Result]) -> Result:
        self._arrive(what)
        if self._world.happens(self._world.faults.lost):
            raise Unavailable(f"no answer: {what}")
        result = effect()
        self._world.say(self._process.name, what)
        return result

    def _write(self, what: str, effect: Callable[[], Result]) -> Result:
        world, faults = self._world, self._world.faults
        self._arrive(what)
        if world.happens(faults.refused):
            raise Unavailable(f"not sent: {what}")
        if world.happens(faults.lost):
            raise Uncertain(f"lost: {what}")
        if world.happens(faults.late):
            world.send_later(what, effect)
            raise Uncertain(f"late: {what}")
        result = effect()
        world.say(self._process.name, f"{what} -> {result}")
        if world.happens(faults.doubled):
            world.send_later(what, effect)
        self._die_perhaps()
        if world.happens(faults.unheard):
            raise Uncertain(f"unheard: {what}")
        return result

    def _arrive(self, what: str) -> None:
        self._die_perhaps()
        self._process.pause()

    def _die_perhaps(self) -> None:
        self._dead = self._dead or self._world.happens(self._world.faults.killed)
        if self._dead:
            raise Killed
