from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.lease import Lease
from registry.directory import DirectoryStore


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_one_holds_it_and_a_silent_holder_loses_it(tmp_path: Path) -> None:
    store, clock = DirectoryStore(tmp_path), Clock()
    one, two = (Lease(store, "lease", owner, 30.0, clock) for owner in ("one", "two"))
    assert (one.hold(), two.hold()) == (1, None)
    for _ in range(10):
        clock.now += 11
        assert (one.hold(), two.hold()) == (1, None)
    clock.now += 31
    assert (two.hold(), one.hold()) == (2, None)
    two.release()
    assert (one.hold(), two.hold()) == (3, None)


def test_a_holder_that_was_asleep_does_not_believe_itself(tmp_path: Path) -> None:
    store, clock = DirectoryStore(tmp_path), Clock()
    one, two = (Lease(store, "lease", owner, 30.0, clock) for owner in ("one", "two"))
    one.hold()
    clock.now += 100
    assert two.hold() == 2
    one.release()
    assert two.hold() == 2


@settings(max_examples=25, deadline=None)
@given(steps=st.lists(st.tuples(st.integers(0, 2), st.floats(0.0, 40.0), st.booleans()), max_size=30))
def test_terms_grow_and_no_two_hold_at_once(tmp_path_factory: object, steps: list[tuple[int, float, bool]]) -> None:
    store, clock = DirectoryStore(tmp_path_factory.mktemp("lease")), Clock()  # type: ignore[attr-defined]
    leases = [Lease(store, "lease", f"m{i}", 30.0, clock) for i in range(3)]
    newest, holder = 0, -1
    for who, wait_s, release in steps:
        clock.now += wait_s
        term = leases[who].hold()
        if term is None:
            assert holder != who
            continue
        assert term > newest or (term == newest and holder == who)
        newest, holder = term, who
        if release:
            leases[who].release()
            holder = -1
