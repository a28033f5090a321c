"""What a machine remembers of a log, and finds changed."""

from __future__ import annotations

import time

import pytest

from registry.adapters import Registry
from registry.errors import Corrupt, Refused
from registry.trust import Trust
from tests.registry.people import People, slot
from tests.registry.stores import MemoryStore, Wrapper


def test_a_machine_that_has_seen_the_head_finds_a_log_cut_short(served: People, store: MemoryStore) -> None:
    served.as_("worker").alias("support", "prod", "v2")
    seen = remembering(served)
    assert seen.resolve("support").number == 2
    newest = store.data.pop(slot(4))
    assert seen.resolve("support").number == 2, "a process that runs on is not deceived"
    with pytest.raises(Corrupt, match="cut short or forked") as caught:
        remembering(served).resolve("support")
    assert str(served.work / "memory") in caught.value.hint
    assert served.as_().resolve("support").number == 1, "a machine that never saw it cannot know"
    served.as_("worker").alias("support", "prod", "v1")
    with pytest.raises(Corrupt, match="cut short or forked"):
        remembering(served).resolve("support")
    store.data[slot(4)] = newest
    assert remembering(served).resolve("support").number == 2


def test_a_fork_is_found_by_a_process_that_runs_on(served: People, store: MemoryStore) -> None:
    running = served.as_()
    served.as_("worker").alias("support", "prod", "v2")
    assert running.resolve("support").number == 2
    del store.data[slot(4)]
    for target in ("v1", "v2"):
        served.as_("worker").alias("support", "prod", target)
    with pytest.raises(Corrupt, match="chain"):
        running.resolve("support")


def test_memory_is_where_the_next_process_begins(served: People, store: MemoryStore) -> None:
    assert remembering(served).resolve("support").number == 1
    before = store.num_gets
    assert remembering(served).resolve("support").number == 1
    assert store.num_gets == before + 3, "the hint, the event remembered, and the slot after it"
    for memory in (served.work / "memory").rglob("support.json"):
        memory.write_bytes(b"torn")
    assert remembering(served).resolve("support").number == 1


def test_a_machine_without_memory_asks_for_many_events_at_once(served: People, store: MemoryStore) -> None:
    worker = served.as_("worker")
    for number in range(30):
        worker.alias("support", "prod", f"v{1 + number % 2}")

    class Slow(Wrapper):
        asking = most = 0

        def get(self, key: str) -> bytes:
            self.asking += 1
            self.most = max(self.most, self.asking)
            time.sleep(0.002)
            self.asking -= 1
            return self.inner.get(key)

    slow = Slow(store)
    assert Registry(slow, trust=Trust(None, served.roots)).resolve("support").number == 2
    assert slow.most > 4


def test_memory_of_other_roots_is_worth_its_head_only(served: People, store: MemoryStore) -> None:
    assert remembering(served).resolve("support").number == 1
    others = frozenset({served.key("eve").id})
    with pytest.raises(Refused, match="no rules signed"):
        Registry(store, trust=Trust(None, others, served.work / "memory")).resolve("support")
    assert remembering(served).resolve("support").number == 1


def remembering(people: People) -> Registry:
    return Registry(people.store, actor="reader", trust=Trust(None, people.roots, people.work / "memory"))
