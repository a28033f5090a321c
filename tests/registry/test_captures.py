"""Captures: feedback is durable when accepted, joins its request, and the latest word counts."""

from __future__ import annotations

import pytest

from registry.captures import (
    FLUSH_AFTER_S,
    FLUSH_RECORDS,
    MAX_BUFFERED,
    CaptureRecord,
    CaptureWriter,
    FeedbackRecord,
    read_captures,
)
from registry.errors import Corrupt, Unavailable
from tests.registry.conftest import FakeClock
from tests.registry.stores import Down, MemoryStore


def request(request_id: str, time: float, adapter: str = "x") -> CaptureRecord:
    return CaptureRecord(
        request_id=request_id,
        time=time,
        session="s",
        adapter=adapter,
        digest="sha256:1",
        messages=[{"role": "user", "content": "naïve?"}],
        response="yes",
    )


def test_feedback_is_durable_and_joined(clock: FakeClock) -> None:
    store = MemoryStore()
    writer = CaptureWriter(store, "default", "gw", clock)
    writer.request(request("r1", clock()))
    writer.request(request("r2", clock() + 1))
    writer.request(request("r3", clock() + 1, adapter="y"))
    assert store.data == {}
    writer.feedback(FeedbackRecord(request_id="r1", time=clock(), adapter="x", correction="no", rating=-1))
    first, second = read_captures(store, "default", "x")
    assert (first.request_id, first.correction, first.rating, first.session) == ("r1", "no", -1, "s")
    assert (second.request_id, second.correction, second.rating) == ("r2", None, None)
    assert first.messages == [{"role": "user", "content": "naïve?"}]
    assert [captured.request_id for captured in read_captures(store, "default", "x", clock() + 1)] == ["r2"]
    assert read_captures(store, "other", "x") == []


def test_the_latest_word_counts_even_days_later(clock: FakeClock) -> None:
    store = MemoryStore()
    writer = CaptureWriter(store, "default", "gw", clock)
    asked = clock()
    writer.request(request("r1", asked))
    writer.feedback(FeedbackRecord(request_id="r1", time=clock(), adapter="x", correction="first", rating=1))
    clock.now += 3 * 86_400
    late = CaptureWriter(store, "default", "other-gw", clock)
    late.feedback(FeedbackRecord(request_id="r1", time=clock(), adapter="x", correction="second"))
    (captured,) = read_captures(store, "default", "x", asked)
    assert (captured.correction, captured.rating) == ("second", 1)
    assert read_captures(store, "default", "x", asked + 86_400) == []


def test_requests_are_written_in_batches(clock: FakeClock) -> None:
    store = MemoryStore()
    writer = CaptureWriter(store, "default", "gw", clock)
    for number in range(FLUSH_RECORDS):
        writer.request(request(f"r{number:03}", clock()))
    assert len(store.data) == 1
    writer.request(request("later", clock()))
    clock.now += FLUSH_AFTER_S
    writer.request(request("latest", clock()))
    assert len(store.data) == 2
    writer.flush()
    assert len(store.data) == 2
    assert len(read_captures(store, "default", "x")) == FLUSH_RECORDS + 2


def test_an_absent_store_loses_only_the_oldest(clock: FakeClock) -> None:
    down = Down(MemoryStore())
    writer = CaptureWriter(down, "default", "gw", clock)
    for number in range(MAX_BUFFERED + 10):
        writer.request(request(f"r{number:05}", clock()))
    assert writer.num_dropped == 10
    with pytest.raises(Unavailable):
        writer.feedback(FeedbackRecord(request_id="r00020", time=clock(), adapter="x", rating=1))
    down.down = False
    writer.flush()
    captured = read_captures(down, "default", "x")
    assert len(captured) == MAX_BUFFERED
    assert captured[0].request_id == "r00010"
    assert all(one.rating is None for one in captured)


def test_damage_is_named(clock: FakeClock) -> None:
    store = MemoryStore()
    store.put("t/default/captures/2026-01-01/X.jsonl.gz", b"not gzip")
    with pytest.raises(Corrupt, match=r"X\.jsonl\.gz"):
        read_captures(store, "default", "x")
