"""Checkpoints and the hint: right, wrong, stale, damaged or gone, they change what a read costs, never its answer."""

from __future__ import annotations

import time

import msgspec
import pytest

from registry.checkpoints import CHECKPOINT_EVERY
from registry.errors import Corrupt, Unavailable
from tests.registry.stores import MemoryStore, Wrapper
from tests.registry.values import PREFIX, forged, open_log, write

HEAD = f"{PREFIX}/HEAD"
GARBAGE = [b"", b"{", b"null", b'{"n":"9"}', b'{"n":-1}', b'{"n":9e99}', b'{"n":18446744073709551616}', b"\xff\xfe"]


def checkpoint(n: int) -> str:
    return f"{PREFIX}/ckpt/{n:020d}.json"


def written(count: int) -> MemoryStore:
    store = MemoryStore()
    write(open_log(store), count)
    return store


def num_gets(store: MemoryStore) -> int:
    """Of a cold read that must see everything."""
    truth = open_log(store).verify()
    before = store.num_gets
    assert open_log(store).position() == truth
    return store.num_gets - before


def test_a_cold_read_of_a_long_log_begins_at_the_newest_checkpoint() -> None:
    store = written(3 * CHECKPOINT_EVERY + 5)
    assert num_gets(store) == 3 + 5 + 1  # HEAD, checkpoint, its event; the tail; the absent slot


def test_a_short_log_costs_one_hint() -> None:
    assert num_gets(written(5)) == 1 + 5 + 1


@pytest.mark.parametrize("hint", [0, 1, CHECKPOINT_EVERY, 2 * CHECKPOINT_EVERY + 2, 3 * CHECKPOINT_EVERY, 10**6, 2**53])
def test_a_wrong_hint_changes_nothing(hint: int) -> None:
    store = written(2 * CHECKPOINT_EVERY + 3)
    store.put(HEAD, b'{"n":%d}' % hint)
    num_gets(store)


@pytest.mark.parametrize("hint", [None, *GARBAGE])
def test_without_a_hint_the_newest_checkpoint_is_listed(hint: bytes | None) -> None:
    store = written(2 * CHECKPOINT_EVERY + 3)
    if hint is None:
        store.delete(HEAD)
    else:
        store.put(HEAD, hint)
    assert num_gets(store) == 3 + 3 + 1


@pytest.mark.parametrize("garbage", GARBAGE)
def test_an_unreadable_checkpoint_leads_to_the_one_before(garbage: bytes) -> None:
    store = written(2 * CHECKPOINT_EVERY + 3)
    store.put(checkpoint(2 * CHECKPOINT_EVERY), garbage)
    assert CHECKPOINT_EVERY < num_gets(store) < 2 * CHECKPOINT_EVERY


def test_a_checkpoint_of_another_log_or_place_is_passed_over() -> None:
    store, other = written(CHECKPOINT_EVERY + 1), MemoryStore()
    write(open_log(other, clock=lambda: 7.0), CHECKPOINT_EVERY)
    store.put(checkpoint(CHECKPOINT_EVERY), other.get(checkpoint(CHECKPOINT_EVERY)))
    with pytest.raises(Corrupt, match="is not the fold"):
        open_log(store).verify()
    before = store.num_gets
    assert open_log(store).position().n == CHECKPOINT_EVERY + 1
    assert store.num_gets - before > CHECKPOINT_EVERY
    store = written(2 * CHECKPOINT_EVERY)
    store.put(checkpoint(2 * CHECKPOINT_EVERY), store.get(checkpoint(CHECKPOINT_EVERY)))
    assert num_gets(store) > CHECKPOINT_EVERY


@pytest.mark.parametrize("theirs", [1, 3])
def test_a_checkpoint_of_another_fold_is_passed_over(theirs: int) -> None:
    store = MemoryStore()
    write(open_log(store, fold_version=theirs), CHECKPOINT_EVERY)
    before = store.num_gets
    assert open_log(store, fold_version=2).position().n == CHECKPOINT_EVERY
    assert store.num_gets - before > CHECKPOINT_EVERY
    open_log(store, fold_version=2).verify()


def test_who_trusts_no_checkpoint_reads_and_writes_none() -> None:
    store = MemoryStore()
    write(open_log(store, trust_checkpoints=False), CHECKPOINT_EVERY)
    assert [key for key in store.data if "/log/" not in key] == ["t/x/log-of-values/HEAD"], "a hint needs no trust"
    store = written(CHECKPOINT_EVERY)
    store.put(checkpoint(CHECKPOINT_EVERY), forged(store.get(checkpoint(CHECKPOINT_EVERY)), b"[0,1,2", b"[0,9,2"))
    assert open_log(store, trust_checkpoints=False).fold().values == tuple(range(CHECKPOINT_EVERY))


def test_a_lying_checkpoint_is_found_by_verify() -> None:
    store = written(CHECKPOINT_EVERY)
    key = checkpoint(CHECKPOINT_EVERY)
    store.put(key, forged(store.get(key), b"[0,1,2", b"[0,9,2"))
    with pytest.raises(Corrupt, match=key):
        open_log(store).verify()


def test_a_commit_stands_although_nothing_derived_can_be_written() -> None:
    class LogOnly(Wrapper):
        def create(self, key: str, data: bytes) -> bool:
            if "/log/" not in key:
                raise Unavailable(key)
            return self.inner.create(key, data)

        def put(self, key: str, data: bytes) -> None:
            raise Unavailable(key)

    store = MemoryStore()
    write(open_log(LogOnly(store)), CHECKPOINT_EVERY + 1)
    assert num_gets(store) > CHECKPOINT_EVERY


def test_a_cold_read_asks_for_many_events_at_once() -> None:
    class Slow(Wrapper):
        now, most = 0, 0

        def get(self, key: str) -> bytes:
            self.now += 1
            self.most = max(self.now, self.most)
            time.sleep(0.002)
            self.now -= 1
            return self.inner.get(key)

    slow = Slow(written(CHECKPOINT_EVERY - 1))
    assert open_log(slow).position().n == CHECKPOINT_EVERY - 1
    assert slow.most > 1


def test_the_hint_follows_every_commit() -> None:
    store = MemoryStore()
    log = open_log(store)
    for count in (1, 2, 3):
        write(log, 1)
        assert msgspec.json.decode(store.get(HEAD)) == {"n": count}
