from __future__ import annotations

import random
from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.inbox import LATE_S, SETTLE_S, Inbox, written_at
from monitoring.sensor import hour_of
from registry.directory import DirectoryStore
from registry.ulid import ulid

START = 1_800_000_000.0


def key_at(time_s: float, seed: int = 0) -> str:
    return f"t/x/obs/{hour_of(time_s)}/{ulid(time_s, random.Random(seed))}-gw.safetensors"


def take(inbox: Inbox, store: DirectoryStore, now: float) -> list[str]:
    taken = [*inbox.pending(store, "t/x/obs/", now)]
    for key in taken:
        inbox.mark(key)
    return taken


def test_times_are_read_from_names() -> None:
    assert written_at(key_at(START + 0.25)) == START + 0.25
    assert written_at("t/x/obs/2027/stray-file") == 0.0


def test_fresh_objects_wait_so_that_order_is_kept(tmp_path: Path) -> None:
    store, inbox = DirectoryStore(tmp_path), Inbox()
    store.create(key_at(START), b"")
    assert take(inbox, store, START + SETTLE_S / 2) == []
    earlier = key_at(START - 0.5)
    store.create(earlier, b"")
    assert take(inbox, store, START + 2 * SETTLE_S) == [earlier, key_at(START)]


def test_late_ones_are_taken_when_they_come_and_memory_stays_bounded(tmp_path: Path) -> None:
    store, inbox = DirectoryStore(tmp_path), Inbox()
    for i in range(200):
        store.create(key_at(START + 20 * i, i), b"")
    assert len(take(inbox, store, START + 1e6)) == 200
    assert len(inbox.done) <= LATE_S / 20 + 1
    late = key_at(START + 20 * 199 - LATE_S / 2, 999)
    store.create(late, b"")
    assert take(inbox, store, START + 1e6) == [late]
    assert take(inbox, store, START + 1e6) == []


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.0, LATE_S * 0.9), max_size=25), st.integers(1, 5))
def test_everything_is_taken_exactly_once_whatever_the_order(
    tmp_path_factory: object, times: list[float], polls: int
) -> None:
    """Objects appear in any order within the time allowed; the inbox is saved and restored between polls."""
    store, inbox = DirectoryStore(tmp_path_factory.mktemp("inbox")), Inbox()  # type: ignore[attr-defined]
    keys, taken = [key_at(START + t, i) for i, t in enumerate(times)], []
    for i, key in enumerate(keys):
        store.create(key, b"")
        if i % polls == 0:
            taken += take(inbox, store, START + 2 * LATE_S)
            inbox = msgspec.json.decode(msgspec.json.encode(inbox), type=Inbox)
    taken += take(inbox, store, START + 2 * LATE_S)
    assert sorted(taken) == sorted(keys)
