"""The registry against the obvious model of it: two people share one adapter on a store that loses replies."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from registry import gc
from registry import store as store_module
from registry import transfer as transfer_module
from registry.adapters import Registry
from registry.errors import Conflict, LorimerError, NotFound, Refused
from tests.registry.folders import PROFILE, write_folder
from tests.registry.stores import Flaky, MemoryStore

FOLDERS = Path(tempfile.mkdtemp(prefix="adapters-"))
atexit.register(shutil.rmtree, FOLDERS, ignore_errors=True)
SEEDS, PICKS, WHO = st.integers(0, 3), st.integers(0, 9), st.integers(0, 1)
ALIASES = st.sampled_from(["prod", "canary"])
FATES = st.lists(st.sampled_from(["fine", "lost", "unheard", "late"]), max_size=3)
WEIGHTS = st.dictionaries(PICKS, st.sampled_from([1.0, 3.0, 4.0]), min_size=1, max_size=2)
Shares = dict[int, float]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "RETRY_DELAYS_S", (0.0,) * 8)
    monkeypatch.setattr(transfer_module, "RETRY_DELAYS_S", (0.0,) * 3)


def folder(seed: int) -> Path:
    path = FOLDERS / str(seed)
    return path if path.exists() else write_folder(path, seed=seed)


@dataclass
class Model:
    """Versions are numbers; `live` says which bytes each one has. Bytes are quarantined, not versions."""

    live: dict[int, int] = field(default_factory=dict)
    aliases: dict[str, Shares] = field(default_factory=dict)
    stood: dict[str, list[Shares]] = field(default_factory=dict)
    bad: set[int] = field(default_factory=set)
    given: int = 0

    @property
    def quarantined(self) -> set[int]:
        return {number for number, seed in self.live.items() if seed in self.bad}

    def number_of(self, seed: int) -> int | None:
        return next((number for number, held in self.live.items() if held == seed), None)

    def move(self, alias: str, to: Shares) -> None:
        shares = {number: weight / sum(to.values()) for number, weight in to.items()}
        self.aliases.pop(alias, None)
        if shares:
            self.aliases[alias] = shares
        stack = self.stood.setdefault(alias, [])
        if not stack or stack[-1] != shares:
            stack.append(shares)

    def roll_back(self, alias: str) -> bool:
        """Whether there was anywhere to go."""
        stack = self.stood.get(alias, [])
        for depth in range(len(stack) - 2, -1, -1):
            to = stack[depth]
            if to and to != self.aliases.get(alias) and all(n in self.live and n not in self.quarantined for n in to):
                del stack[depth + 1 :]
                self.aliases[alias] = to
                return True
        return False

    def held(self, number: int) -> bool:
        return any(number in shares for shares in self.aliases.values())

    def heaviest(self, alias: str) -> int | None:
        """None where the registry breaks a tie by digest, which the model does not know."""
        shares = self.aliases.get(alias, {})
        best = [number for number, share in shares.items() if share == max(shares.values())]
        return best[0] if len(best) == 1 else None


class People(RuleBasedStateMachine):
    """What is done through either registry, both and a stranger see at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.store = MemoryStore()
        self.flaky = [Flaky(self.store, []), Flaky(self.store, [])]
        self.registries = [self.open(0), self.open(1)]
        self.registries[0].register_base(PROFILE)
        self.model = Model()
        self.before: list[tuple[float, dict[str, Shares]]] = []

    def open(self, who: int) -> Registry:
        return Registry(self.flaky[who], clock=lambda: self.now, actor=f"w{who}")

    def act(self, who: int, fates: list[str]) -> Registry:
        """Time goes on; what was true until now is remembered."""
        self.before.append((self.now, {alias: dict(shares) for alias, shares in self.model.aliases.items()}))
        self.now += 10.0
        self.flaky[who].fates = list(fates)
        return self.registries[who]

    def pick(self, number: int) -> int:
        """Mostly a live version."""
        live = sorted(self.model.live)
        return live[number % len(live)] if live and number else 99

    @rule(who=WHO, seed=SEEDS, alias=st.none() | ALIASES, fates=FATES)
    def publish(self, who: int, seed: int, alias: str | None, fates: list[str]) -> None:
        known = self.model.number_of(seed)
        expected = {} if alias is None else {alias: self.standing(alias)}
        registry = self.act(who, fates)
        if seed in self.model.bad and alias is not None and self.model.aliases.get(alias) != {known: 1.0}:
            with pytest.raises(Refused, match="quarantined"):
                registry.publish("x", folder(seed), aliases=expected)
            return
        version = registry.publish("x", folder(seed), aliases=expected)
        if known is None:
            self.model.given += 1
            self.model.live[self.model.given] = seed
        assert self.model.live[version.number] == seed
        if alias is not None and self.model.aliases.get(alias) != {version.number: 1.0}:
            self.model.move(alias, {version.number: 1.0})

    @rule(who=WHO, alias=ALIASES, to=WEIGHTS, fates=FATES)
    def split(self, who: int, alias: str, to: Shares, fates: list[str]) -> None:
        registry = self.act(who, fates)
        to = {self.pick(number): weight for number, weight in to.items()}
        wanted = {f"v{number}": weight for number, weight in to.items()}
        if not set(to) <= set(self.model.live):
            with pytest.raises(NotFound):
                registry.alias("x", alias, wanted)
        elif set(to) & self.model.quarantined:
            with pytest.raises(Refused):
                registry.alias("x", alias, wanted)
        else:
            registry.alias("x", alias, wanted)
            self.model.move(alias, to)

    @precondition(lambda self: self.model.given)
    @rule(who=WHO, alias=ALIASES, fates=FATES)
    def unset(self, who: int, alias: str, fates: list[str]) -> None:
        self.act(who, fates).alias("x", alias, None)
        self.model.move(alias, {})

    @precondition(lambda self: self.model.live)
    @rule(who=WHO, alias=ALIASES)
    def move_with_a_wrong_belief(self, who: int, alias: str) -> None:
        actual = self.standing(alias)
        with pytest.raises(Conflict) as caught:
            self.registries[who].alias("x", alias, f"v{min(self.model.live)}", expect="sha256:" + "0" * 64)
        assert caught.value.actual == (actual if len(actual) > 1 else next(iter(actual), None))

    @precondition(lambda self: self.model.given)
    @rule(who=WHO, alias=ALIASES, fates=FATES)
    def roll_back(self, who: int, alias: str, fates: list[str]) -> None:
        registry = self.act(who, fates)
        if self.model.roll_back(alias):
            assert registry.rollback("x", alias).number in self.model.aliases[alias]
        else:
            with pytest.raises(NotFound):
                registry.rollback("x", alias)

    @rule(who=WHO, pick=PICKS, fates=FATES)
    def delete(self, who: int, pick: int, fates: list[str]) -> None:
        registry, number = self.act(who, fates), self.pick(pick)
        if number not in self.model.live:
            with pytest.raises(NotFound):
                registry.delete("x", f"v{number}")
        elif self.model.held(number):
            with pytest.raises(Refused):
                registry.delete("x", f"v{number}")
        else:
            registry.delete("x", f"v{number}")
            del self.model.live[number]

    @rule(who=WHO, pick=PICKS, lift=st.booleans(), fates=FATES)
    def quarantine(self, who: int, pick: int, lift: bool, fates: list[str]) -> None:
        registry, number = self.act(who, fates), self.pick(pick)
        if number not in self.model.live:
            with pytest.raises(NotFound):
                registry.quarantine("x", f"v{number}", "why", lift=lift)
            return
        registry.quarantine("x", f"v{number}", "why", lift=lift)
        (self.model.bad.discard if lift else self.model.bad.add)(self.model.live[number])

    @precondition(lambda self: self.model.given)
    @rule(who=WHO, fates=FATES)
    def collect(self, who: int, fates: list[str]) -> None:
        gc.collect(self.act(who, fates), ["x"], grace_s=0)
        for flaky in self.flaky:
            flaky.arrive()
        needed = {f"t/default/a/x/blobs/{sha256}.{tx}" for sha256, tx in self.registries[who].state("x").blobs()}
        assert set(self.store.list("t/default/a/x/blobs/")) == needed

    @rule(who=WHO)
    def late_arrivals(self, who: int) -> None:
        self.flaky[who].arrive()

    @rule(who=WHO)
    def crash(self, who: int) -> None:
        self.registries[who] = self.open(who)

    @precondition(lambda self: self.before)
    @rule(who=WHO, alias=ALIASES, when=st.integers(0, 100))
    def look_back(self, who: int, alias: str, when: int) -> None:
        time, aliases = self.before[when % len(self.before)]
        try:
            state = self.registries[who].state("x", at=time)
        except NotFound:
            assert not self.model.given
            return
        assert self.numbered(state.standing(alias), {v.digest: v.number for v in state.versions}) == aliases.get(
            alias, {}
        )

    @invariant()
    def everyone_sees_the_model(self) -> None:
        if not self.model.given:
            return
        for registry in (*self.registries, Registry(self.store, clock=lambda: self.now)):
            state = registry.state("x")
            numbers = {version.digest: version.number for version in state.versions}
            assert sorted(numbers.values()) == sorted(self.model.live)
            assert {a: self.numbered(state.standing(a), numbers) for a in state.aliases} == self.model.aliases
            assert {numbers[digest] for digest in state.quarantined if digest in numbers} == self.model.quarantined
            assert state.next_version == self.model.given + 1
            for alias in self.model.aliases:
                self.resolves(registry, alias)
        (row,) = self.registries[0].list()
        assert (row.num_versions, row.latest) == (len(self.model.live), max(self.model.live, default=0))

    def resolves(self, registry: Registry, alias: str) -> None:
        meant = self.model.heaviest(alias)
        if meant in self.model.quarantined:
            with pytest.raises(Refused, match="quarantined"):
                registry.resolve(f"x@{alias}")
        elif meant is not None:
            assert registry.resolve(f"x@{alias}").number == meant

    def teardown(self) -> None:
        for flaky in self.flaky:
            flaky.arrive()
        if self.model.given:
            assert Registry(self.store).verify("x").num_versions == len(self.model.live)

    def standing(self, alias: str) -> dict[str, float]:
        try:
            return Registry(self.store).state("x").standing(alias)
        except LorimerError:
            return {}

    @staticmethod
    def numbered(standing: dict[str, float], numbers: dict[str, int]) -> Shares:
        return {numbers[digest]: share for digest, share in standing.items()}


TestPeople = People.TestCase
TestPeople.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
