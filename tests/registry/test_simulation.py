"""Ten thousand simulated worlds find no fault in the protocol; and find every fault that is put into it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from registry.store import Store, Uncertain
from tests.registry.simulation.scenario import Scenario
from tests.registry.simulation.watched import WatchedStore

SEEDS = 10_000
PROCESSES = 2
LOOKING = 3_000
"""Seeds within which a known fault must show."""


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    return Scenario(tmp_path_factory.mktemp("simulation"))


def test_ten_thousand_worlds() -> None:
    """In processes of their own, because the order of sets must be the seed's as well."""
    share = SEEDS // PROCESSES
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.registry.simulation", "--seeds", str(share), "--first", str(share * number)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"},
            cwd=Path(__file__).parents[2],
        )
        for number in range(PROCESSES)
    ]
    said = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0] * PROCESSES, "\n".join(said)


def test_a_seed_is_one_world(scenario: Scenario) -> None:
    for seed in range(5):
        one, again = (scenario.run(seed, traced=True) for _ in range(2))
        assert one.trace == again.trace
        assert one.store.data == again.store.data


honest_create = WatchedStore.create


def overwrite(store: WatchedStore, key: str, data: bytes) -> bool:
    store.data.pop(key, None)
    return honest_create(store, key, data)


def believe_the_first_answer(store: Store, key: str, data: bytes, **_: Any) -> bool:
    try:
        return store.create(key, data)
    except Uncertain:
        return False


@pytest.mark.parametrize(
    ("where", "fault"),
    [
        ("tests.registry.simulation.watched.WatchedStore.create", overwrite),
        ("registry.log.create_surely", believe_the_first_answer),
        ("registry.versions._abort", lambda state, _: state),
        ("registry.notices.create_surely", lambda *_: True),
        ("registry.catalog_reader.Index.covers", lambda *_: True),
    ],
)
def test_a_fault_shows(scenario: Scenario, where: str, fault: Any) -> None:
    def search() -> None:
        for seed in range(LOOKING):
            scenario.run(seed)

    with patch(where, fault), pytest.raises(AssertionError):
        search()
