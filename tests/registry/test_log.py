"""The log: one history whatever the store does to replies, whoever else appends, and from wherever it is read."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from registry.canonical import sha256
from registry.errors import Conflict, Corrupt, Invalid, Refused
from registry.log import FORMAT, Log
from registry.store import Uncertain
from tests.registry.conftest import REAL_STORES, OpenAgain
from tests.registry.stores import Flaky, MemoryStore
from tests.registry.values import Add, Take, Values, forged, open_log

FATES = st.lists(st.sampled_from(["fine", "lost", "unheard", "late"]), max_size=4)


def expecting(*values: int) -> Callable[[Values], None]:
    def check(state: Values) -> None:
        if state.values != values:
            raise Conflict("changed", actual=state.values)

    return check


def test_append_and_fold() -> None:
    store = MemoryStore()
    log = open_log(store)
    first = log.append([Add(1), Add(2)], actor="me")
    second = log.append([Add(3)])
    assert (first.n, second.n, first.actor) == (1, 2, "me")
    assert log.fold() == open_log(store).fold() == Values((1, 2, 3))
    assert [event.n for event in log.tail(2)] == [2]
    assert [op.value for event in log.events() for op in event.ops] == [1, 2, 3]


def test_events_are_canonical_and_chained() -> None:
    store = MemoryStore()
    log = open_log(store)
    for value in (1, 2):
        log.append([Add(value)])
    raw = store.get(log.slot(1))
    assert raw.startswith(b'{"actor":"","n":1,"ops":[{"op":"add","value":1}],"prev":"000')
    assert msgspec.json.decode(store.get(log.slot(2)))["prev"] == sha256(raw)


def test_warm_fold_is_one_get() -> None:
    store = MemoryStore()
    log = open_log(store)
    for value in range(5):
        log.append([Add(value)])
    before = store.num_gets
    log.fold()
    assert store.num_gets == before + 1


def test_expect_sees_the_state_it_replaces() -> None:
    store = MemoryStore()
    mine, theirs = open_log(store), open_log(store)
    mine.append([Add(1)])
    theirs.append([Add(2)])
    with pytest.raises(Conflict) as caught:
        mine.append([Add(3)], expect=expecting(1))
    assert caught.value.actual == (1, 2)
    mine.append([Add(3)], expect=expecting(1, 2))


def test_nothing_to_do_is_no_event() -> None:
    log = open_log(MemoryStore())
    assert log.transact(lambda _: []) is None
    assert list(log.events()) == []


def test_an_untyped_log_needs_no_fold() -> None:
    log: Log[dict[str, Any], None] = Log(MemoryStore(), "t/x/plain")
    log.append([{"op": "anything", "value": 1.5}])
    assert [event.ops for event in log.events()] == [({"op": "anything", "value": 1.5},)]
    with pytest.raises(Invalid, match="canonical"):
        log.append([{"value": float("nan")}])


@pytest.mark.parametrize("damage", [b"not json", b"{}", b'{"actor":"", "n":2}'])
def test_damaged_events_are_named(damage: bytes) -> None:
    store = MemoryStore()
    log = open_log(store)
    for value in range(3):
        log.append([Add(value)])
    store.put(log.slot(2), damage)
    for read in (lambda: open_log(store).fold(), lambda: list(log.events()), log.verify):
        with pytest.raises(Corrupt, match="00002"):
            read()


def test_an_altered_event_breaks_the_chain() -> None:
    store = MemoryStore()
    log = open_log(store)
    for value in range(3):
        log.append([Add(value)])
    store.put(log.slot(2), forged(store.get(log.slot(2)), b'"value":1', b'"value":7'))
    with pytest.raises(Corrupt, match=r"00003\.json breaks the hash chain: it or .*00002\.json was altered"):
        open_log(store).fold()


def test_a_lost_event_is_missed_by_verify() -> None:
    store = MemoryStore()
    log = open_log(store)
    for value in range(3):
        log.append([Add(value)])
    store.delete(log.slot(2))
    with pytest.raises(Corrupt, match=r"00002\.json is missing, and yet there is .*00003\.json"):
        log.verify()


def test_an_event_carries_the_lowest_format_that_can_fold_it() -> None:
    log = open_log(MemoryStore())
    events = [log.append(ops) for ops in ([Add(1)], [Add(2), Take(1)], [Add(3)])]
    assert [event.v for event in events] == [1, 2, 1]


@pytest.mark.parametrize("op", [b'{"op":"add","value":1}', b'{"op":"conjure","value":[1]}'])
def test_a_newer_event_is_refused_by_name_never_skipped(op: bytes) -> None:
    store = MemoryStore()
    log = open_log(store)
    for value in range(3):
        log.append([Add(value)])
    newer = forged(store.get(log.slot(2)), b'{"op":"add","value":1}', op)
    store.put(log.slot(2), forged(newer, b'"v":1', b'"v":%d' % (FORMAT + 1)))
    writer = open_log(store)
    for use in (open_log(store).fold, lambda: list(log.events()), log.verify, lambda: writer.append([Add(3)])):
        with pytest.raises(Refused, match=r"00002\.json has format 3; this program reads up to 2 \(update lorimer\)"):
            use()
    assert not store.exists(log.slot(4))


def test_an_unknown_op_in_a_known_format_is_damage() -> None:
    store = MemoryStore()
    log = open_log(store)
    log.append([Add(0)])
    store.put(log.slot(1), forged(store.get(log.slot(1)), b'"add"', b'"conjure"'))
    with pytest.raises(Corrupt, match=r"00001\.json is not a readable event"):
        open_log(store).fold()


def test_silence_raises_and_a_rerun_finds_the_truth() -> None:
    store = MemoryStore()
    log = open_log(Flaky(store, ["late", *["lost"] * 7]))
    with pytest.raises(Uncertain):
        log.append([Add(1)])
    log.store.arrive()  # type: ignore[attr-defined]
    log.append([Add(2)])
    assert log.fold() == Values((1, 2))


@pytest.mark.parametrize("open_again", REAL_STORES, indirect=True)
def test_writers_on_separate_connections_lose_nothing(open_again: OpenAgain) -> None:
    logs = [open_log(open_again()) for _ in range(4)]

    def write(writer: int) -> None:
        for number in range(8):
            logs[writer].append([Add(writer * 100 + number)])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    values = open_log(open_again()).verify().state.values
    assert sorted(values) == [writer * 100 + number for writer in range(4) for number in range(8)]
    for writer in range(4):
        own = [value for value in values if value // 100 == writer]
        assert own == sorted(own)


def test_one_log_shared_by_threads() -> None:
    log = open_log(MemoryStore())
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda value: log.append([Add(value)]), range(100)))
    assert sorted(log.fold().values) == list(range(100))
    assert log.verify() == log.position()


def test_compare_and_swap_counter_never_loses_an_increment() -> None:
    store = MemoryStore()

    def increment(_: int) -> None:
        open_log(store).transact(lambda state: [Add(len(state.values))])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(increment, range(60)))
    assert open_log(store).fold().values == tuple(range(60))


class Writers(RuleBasedStateMachine):
    """Three writers with caches of their own on a store that loses, repeats and delays what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore()
        self.flaky = [Flaky(self.store, []) for _ in range(3)]
        self.logs = [open_log(flaky) for flaky in self.flaky]
        self.model: list[int] = []

    @initialize(values=st.lists(st.integers(-9, 9), max_size=3))
    def start(self, values: list[int]) -> None:
        for value in values:
            self.append(0, value, [])

    @rule(writer=st.integers(0, 2), value=st.integers(-(2**53) + 1, 2**53 - 1), fates=FATES)
    def append(self, writer: int, value: int, fates: list[str]) -> None:
        self.flaky[writer].fates = list(fates)
        event = self.logs[writer].append([Add(value)])
        self.model.append(value)
        assert event.n == len(self.model)

    @rule(writer=st.integers(0, 2), stale=st.booleans(), fates=FATES)
    def compare_and_swap(self, writer: int, stale: bool, fates: list[str]) -> None:
        self.flaky[writer].fates = list(fates)
        expected = (*self.model, 0) if stale else tuple(self.model)
        if stale:
            with pytest.raises(Conflict) as caught:
                self.logs[writer].append([Add(7)], expect=expecting(*expected))
            assert caught.value.actual == tuple(self.model)
        else:
            self.logs[writer].append([Add(7)], expect=expecting(*expected))
            self.model.append(7)

    @rule(writer=st.integers(0, 2))
    def late_arrivals(self, writer: int) -> None:
        self.flaky[writer].arrive()

    @rule(writer=st.integers(0, 2))
    def crash(self, writer: int) -> None:
        self.logs[writer] = open_log(self.flaky[writer])

    @invariant()
    def everyone_reads_the_same_history(self) -> None:
        for log in self.logs:
            assert list(log.fold().values) == self.model
        assert list(open_log(self.store).verify().state.values) == self.model


TestWriters = Writers.TestCase
TestWriters.settings = settings(
    max_examples=120, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@given(values=st.lists(st.integers(-1000, 1000), max_size=30), split=st.integers(0, 30))
@settings(max_examples=50, deadline=None)
def test_fold_equals_fold_of_prefix_then_tail(values: list[int], split: int) -> None:
    store = MemoryStore()
    log, early = open_log(store), open_log(store)
    for index, value in enumerate(values):
        if index == split:
            early.fold()
        log.append([Add(value)])
    assert early.fold() == log.fold() == open_log(store).fold() == Values(tuple(values))
