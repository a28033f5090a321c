"""Captures as they may be read: each request with the latest feedback, and nothing of who is forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from registry.captures.erasures import Erasures
from registry.captures.objects import CaptureObjects
from registry.captures.records import CaptureRecord, FeedbackRecord, Record
from registry.parallel import at_once
from registry.store import Store


class Captured(msgspec.Struct, frozen=True, kw_only=True):
    """A request with the latest feedback on it. A plain completion has a `prompt` instead of `messages`."""

    request_id: str
    time: float
    adapter: str
    digest: str
    messages: list[dict[str, Any]]
    response: str
    session: str = ""
    correction: str | None = None
    rating: int | None = None
    prompt: str | None = None
    others: tuple[str, ...] = ()
    tools: list[dict[str, Any]] = []
    users: tuple[str, ...] = ()


def read_captures(store: Store, tenant: str, adapter: str | None, since: float = 0.0) -> list[Captured]:
    """Requests from `since` on, oldest first, each with the latest correction and rating; of one adapter, or of all."""
    requests: dict[str, CaptureRecord] = {}
    feedback: list[FeedbackRecord] = []
    for record in _records(store, tenant, since):
        if adapter is not None and record.adapter != adapter:
            continue
        if isinstance(record, FeedbackRecord):
            feedback.append(record)
        elif record.time >= since:
            requests.setdefault(record.request_id, record)
    corrections: dict[tuple[str, str], str] = {}
    ratings: dict[tuple[str, str], int] = {}
    for note in sorted(feedback, key=lambda note: note.time):
        if note.correction is not None:
            corrections[note.request_id, note.adapter] = note.correction
        if note.rating is not None:
            ratings[note.request_id, note.adapter] = note.rating
    joined = [
        _captured(each, corrections.get((each.request_id, each.adapter)), ratings.get((each.request_id, each.adapter)))
        for each in requests.values()
    ]
    return sorted(joined, key=lambda captured: (captured.time, captured.request_id))


def _captured(request: CaptureRecord, correction: str | None, rating: int | None) -> Captured:
    return Captured(
        request_id=request.request_id,
        time=request.time,
        adapter=request.adapter,
        digest=request.digest,
        messages=request.messages,
        response=request.response,
        session=request.session,
        correction=correction,
        rating=rating,
        prompt=request.prompt,
        others=request.others,
        tools=request.tools,
        users=request.users or (),
    )


def _records(store: Store, tenant: str, since: float) -> Iterator[Record]:
    """The rule is asked for last: what is asked to be forgotten while this reads is not told either."""
    objects, erasures = CaptureObjects(store, tenant), Erasures(store, tenant)
    read = [record for records in at_once(objects.read, objects.listed(since)) for record in records]
    rule = erasures.rule()
    return (record for record in read if not (rule and rule.covers(record, erasures.pseudonyms.of)))
