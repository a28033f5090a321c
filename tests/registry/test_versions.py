"""The fold of an adapter's log against the obvious model, through two registries on a store that loses replies."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from registry import store as store_module
from registry.adapters import Registry
from registry.errors import Conflict, NotFound, Refused
from registry.names import Alias
from tests.registry.folders import PROFILE, write_folder
from tests.registry.stores import Flaky, MemoryStore

FOLDERS = Path(tempfile.mkdtemp(prefix="adapters-"))
atexit.register(shutil.rmtree, FOLDERS, ignore_errors=True)
SEEDS, WHO, ALIASES = st.integers(0, 3), st.integers(0, 1), st.sampled_from(["prod", "canary"])
FATES = st.lists(st.sampled_from(["fine", "lost", "unheard", "late"]), max_size=3)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "RETRY_DELAYS_S", (0.0,) * 8)


def folder(seed: int) -> Path:
    path = FOLDERS / str(seed)
    return path if path.exists() else write_folder(path, seed=seed)


class Adapters(RuleBasedStateMachine):
    """Model: version number -> seed of the live versions, alias -> number, numbers given out so far."""

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore()
        self.flaky = [Flaky(self.store, []), Flaky(self.store, [])]
        self.registries = [Registry(flaky, clock=lambda: 1.0, actor="w") for flaky in self.flaky]
        self.registries[0].register_base(PROFILE)
        self.live: dict[int, int] = {}
        self.aliases: dict[str, int] = {}
        self.given = 0

    @rule(who=WHO, seed=SEEDS, alias=st.none() | ALIASES, fates=FATES)
    def publish(self, who: int, seed: int, alias: str | None, fates: list[str]) -> None:
        self.flaky[who].fates = list(fates)
        expected = {} if alias is None else {alias: self.digest(self.aliases.get(alias))}
        version = self.registries[who].publish("x", folder(seed), aliases=expected)
        if seed not in self.live.values():
            self.given += 1
            self.live[self.given] = seed
        assert self.live[version.number] == seed
        if alias is not None:
            self.aliases[alias] = version.number

    @rule(who=WHO, alias=ALIASES, number=st.integers(1, 6), fates=FATES)
    def move(self, who: int, alias: str, number: int, fates: list[str]) -> None:
        self.flaky[who].fates = list(fates)
        if number in self.live:
            self.registries[who].alias("x", alias, f"v{number}")
            self.aliases[alias] = number
        else:
            with pytest.raises(NotFound):
                self.registries[who].alias("x", alias, f"v{number}")

    @rule(who=WHO, alias=ALIASES, number=st.integers(1, 6))
    def move_with_a_wrong_belief(self, who: int, alias: str, number: int) -> None:
        if self.live:
            wrong = "sha256:" + "0" * 64
            with pytest.raises(Conflict) as caught:
                self.registries[who].alias("x", alias, f"v{min(self.live)}", expect=wrong)
            assert caught.value.actual == self.digest(self.aliases.get(alias))

    @rule(who=WHO, number=st.integers(1, 6), fates=FATES)
    def delete(self, who: int, number: int, fates: list[str]) -> None:
        self.flaky[who].fates = list(fates)
        if number in self.aliases.values():
            with pytest.raises(Refused):
                self.registries[who].delete("x", f"v{number}")
        elif number in self.live:
            self.registries[who].delete("x", f"v{number}")
            del self.live[number]
        else:
            with pytest.raises(NotFound):
                self.registries[who].delete("x", f"v{number}")

    @rule(who=WHO, alias=ALIASES)
    def rollback_lands_on_a_live_version(self, who: int, alias: str) -> None:
        before = self.aliases.get(alias)
        try:
            version = self.registries[who].rollback("x", alias)
        except NotFound:
            return
        assert version.number in self.live
        assert version.number != before
        self.aliases[alias] = version.number

    @rule(who=WHO)
    def late_arrivals(self, who: int) -> None:
        self.flaky[who].arrive()

    @invariant()
    def everyone_reads_the_model(self) -> None:
        for registry in (*self.registries, Registry(self.store)):
            if self.given:
                state = registry.state("x")
                assert [version.number for version in state.versions] == sorted(self.live)
                assert {a: state.select(Alias(a)).number for a in state.aliases} == self.aliases
                assert state.next_version == self.given + 1

    def teardown(self) -> None:
        if self.given:
            assert Registry(self.store).verify("x").num_versions == len(self.live)

    def digest(self, number: int | None) -> str | None:
        return None if number is None else Registry(self.store).resolve(f"x@v{number}").digest


TestAdapters = Adapters.TestCase
TestAdapters.settings = settings(
    max_examples=100,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
