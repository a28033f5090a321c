from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import UNSET

from registry.adapters import Registry
from registry.errors import Conflict, NotFound
from registry.notices import SKEW_S, Notices
from tests.registry.conftest import FakeClock
from tests.registry.folders import write_folder


@pytest.fixture
def notices(registry: Registry, clock: FakeClock) -> Notices:
    return Notices(registry.store, registry.tenant, clock)


def test_publishes_moves_and_rollbacks_are_announced_once(registry: Registry, notices: Notices, tmp_path: Path) -> None:
    assert notices.fresh() == set()
    registry.publish("a-b.c", write_folder(tmp_path / "1"), aliases={"prod": UNSET})
    registry.publish("other", write_folder(tmp_path / "2"))
    assert notices.fresh() == {"a-b.c", "other"}
    assert notices.fresh() == set()
    registry.publish("a-b.c", write_folder(tmp_path / "3", seed=3))
    assert notices.fresh() == {"a-b.c"}
    registry.alias("a-b.c", "prod", "v2")
    assert notices.fresh() == {"a-b.c"}
    registry.rollback("a-b.c")
    assert notices.fresh() == {"a-b.c"}


def test_the_same_bytes_under_a_new_alias_are_announced(registry: Registry, notices: Notices, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "1")
    registry.publish("x", folder)
    notices.fresh()
    registry.publish("x", folder)
    assert notices.fresh() == set(), "nothing changed"
    registry.publish("x", folder, aliases={"canary": UNSET})
    assert notices.fresh() == {"x"}


def test_what_is_refused_is_not_announced(registry: Registry, notices: Notices, tmp_path: Path) -> None:
    registry.publish("x", write_folder(tmp_path / "1"))
    notices.fresh()
    for refused in (lambda: registry.alias("x", "prod", "v9"), lambda: registry.rollback("x")):
        with pytest.raises(NotFound):
            refused()
    with pytest.raises(Conflict):
        registry.alias("x", "prod", "v1", expect="v1")
    assert notices.fresh() == set()


def test_a_writer_whose_clock_is_behind_is_heard(
    registry: Registry, notices: Notices, clock: FakeClock, tmp_path: Path
) -> None:
    registry.publish("x", write_folder(tmp_path / "1"))
    notices.fresh()
    clock.now -= SKEW_S / 2
    registry.alias("x", "prod", "v1")
    clock.now += SKEW_S / 2
    assert notices.fresh() == {"x"}
    clock.now += 2 * SKEW_S
    assert notices.fresh() == set()
