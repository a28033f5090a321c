"""Which versions a retention keeps, and why; against the rules as they are written down."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry import changes
from registry.aliases import MAX_HISTORY
from registry.errors import Refused
from registry.log import Event
from registry.manifest import Manifest, Parent
from registry.ops import Delete, MoveAlias, Op, Publish, Quarantine
from registry.retention import DAY_S, Retention, expire, reasons
from registry.versions import AdapterState, fold
from tests.registry.folders import PROFILE

NOW = 100 * DAY_S


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def made(*ops: tuple[float, Op]) -> AdapterState:
    """The fold of operations, each on its day."""
    state = AdapterState(tenant="t", adapter="x")
    for n, (day, op) in enumerate(ops, 1):
        state = fold(state, Event(n=n, prev="", tx="", actor="", time=day * DAY_S, ops=(op,)))
    return state


def publish(number: int, parent: int | None = None) -> Publish:
    made_from = None if parent is None else Parent(adapter="x", digest=digest(parent))
    manifest = Manifest(files=(), method="lora", rank=1, alpha=1.0, targets=(), base=PROFILE.identity, parent=made_from)
    return Publish(digest=digest(number), manifest=manifest, loc={})


def move(alias: str, *numbers: int) -> MoveAlias:
    return MoveAlias(name=alias, to={digest(number): 1.0 / len(numbers) for number in numbers})


def kept(state: AdapterState, **rules: float) -> list[int]:
    why = reasons(state, msgspec.convert(rules, Retention), NOW)
    return [version.number for version in state.versions if version.digest in why]


FIVE = [(day * 10.0, publish(day)) for day in (1, 2, 3, 4, 5)]


@pytest.mark.parametrize(
    ("rules", "numbers"),
    [
        ({}, [1, 2, 3, 4, 5]),
        ({"keep_last": 2}, [4, 5]),
        ({"keep_last": 9}, [1, 2, 3, 4, 5]),
        ({"keep_days": 65.0}, [4, 5]),
        ({"keep_last": 1, "keep_days": 75.0}, [3, 4, 5]),
        ({"keep_days": 0.0}, []),
        ({"keep_aliased_days": 30.0}, []),
    ],
)
def test_plain_rules(rules: dict[str, float], numbers: list[int]) -> None:
    assert kept(made(*FIVE), **rules) == numbers


def test_aliased_versions_stay_and_those_aliased_lately() -> None:
    moves = [(60.0, move("prod", 1)), (80.0, move("prod", 2)), (90.0, move("prod", 3, 4)), (95.0, move("prod", 5))]
    state = made(*FIVE, *moves)
    assert kept(state, keep_days=0.0) == [3, 4, 5], "prod, and what it would roll back to"
    assert kept(state, keep_aliased_days=15.0) == [2, 3, 4, 5]
    assert kept(state, keep_aliased_days=30.0) == [1, 2, 3, 4, 5]
    why = reasons(state, Retention(keep_aliased_days=15.0), NOW)
    assert why[digest(5)] == "it is prod"
    assert why[digest(3)] == "prod would roll back to it"
    assert why[digest(2)] == "it was prod within 15 days"


def test_parents_and_quarantined_versions_stay() -> None:
    state = made(
        (1.0, publish(1)),
        (2.0, publish(2, parent=1)),
        (3.0, publish(3, parent=2)),
        (4.0, publish(4)),
        (5.0, publish(5)),
        (6.0, Quarantine(digest=digest(4), reason="evidence")),
        (7.0, move("prod", 3)),
    )
    assert kept(state, keep_days=0.0) == [1, 2, 3, 4]
    why = reasons(state, Retention(keep_days=0.0), NOW)
    assert (why[digest(1)], why[digest(4)]) == ("x@v2 was made from it", "it is quarantined")


def test_a_history_too_short_to_tell_keeps_everything() -> None:
    moves = [(99.0, move("prod", 1 + n % 2)) for n in range(MAX_HISTORY + 1)]
    state = made(*FIVE, *moves)
    assert kept(state, keep_aliased_days=5.0) == [1, 2, 3, 4, 5]
    assert kept(state, keep_aliased_days=0.5) == [1, 2]


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["publish", "prod", "canary", "quarantine"]), st.integers(1, 6)), max_size=20
    ),
    rules=st.builds(
        Retention,
        keep_last=st.none() | st.integers(1, 4),
        keep_days=st.none() | st.floats(0, 100),
        keep_aliased_days=st.none() | st.floats(0, 100),
    ),
)
@settings(max_examples=150, deadline=None)
def test_what_retention_deletes_could_be_deleted_by_hand(steps: list[tuple[str, int]], rules: Retention) -> None:
    """Never an alias's target, never a parent of what stays, never evidence; and once done, it is done."""
    ops: list[tuple[float, Op]] = []
    count = 0
    for day, (what, number) in enumerate(steps):
        if what == "publish":
            count += 1
            ops.append((day * 5.0, publish(count, parent=number if number < count else None)))
        elif number <= count:
            op = Quarantine(digest=digest(number)) if what == "quarantine" else move(what, number)
            ops.append((day * 5.0, op))
    state = made(*ops)
    state = msgspec.structs.replace(state, policy={"retention": msgspec.to_builtins(rules)})
    deleted = [op for op in expire(NOW)(state) if isinstance(op, Delete)]
    after = state
    for op in sorted(deleted, key=lambda op: op.digest, reverse=True):
        try:
            (again,) = changes.retire(op.digest)(after)
        except Refused as error:
            raise AssertionError(f"retention would delete what must stay: {error}") from error
        after = fold(after, Event(n=99, prev="", tx="", actor="", time=NOW, ops=(again,)))
    assert expire(NOW)(after) == []
    for alias in state.aliases:
        assert after.select(changes.parse_selector(alias)) == state.select(changes.parse_selector(alias))
