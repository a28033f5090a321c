"""From an ended call to what capture keeps of it: redacted, under pseudonyms. Decides nothing about consent."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

from structlog.typing import FilteringBoundLogger

from registry.captures import CaptureRecord, CaptureWriter, FeedbackRecord
from registry.captures.pseudonyms import Pseudonyms
from registry.captures.records import Record, lines_of
from registry.captures.redaction import Kind, Redaction, Redactor
from registry.errors import Refused
from serving.gateway.calls import Call
from serving.gateway.dialect.kept import Kept
from serving.gateway.generation import Row


class Capturing:
    """`own` is the operator's redactor. What it fails on is not kept, and that is told without the text."""

    def __init__(
        self,
        own: Redactor | None,
        in_background: Callable[[Callable[[], None]], object],
        log: FilteringBoundLogger,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._own = own
        self._in_background = in_background
        self._log = log
        self._clock = clock
        self.num_unredacted = 0
        """Texts that were not kept because the redactor failed on them."""

    def keep(self, call: Call) -> None:
        """Each prompt whose first answer ended well; on the event loop, the work itself in the background."""
        if call.kept and not call.tenant.pseudonyms.ready:
            self._log.error("not captured: there is no key for pseudonyms", id=call.id, tenant=call.tenant.name)
            return
        per_prompt = call.question.per_prompt
        for number, kept in enumerate(call.kept):
            rows = call.generation.rows[number * per_prompt : (number + 1) * per_prompt]
            if is_whole(rows[0]):
                self._in_background(partial(self._write, call, self._record(call, kept, rows)))

    def feedback(self, record: FeedbackRecord, captures: CaptureWriter, redact: tuple[Kind, ...]) -> None:
        """Durable when it returns; Refused where it cannot be redacted. Blocks on the store."""
        redacted = self._redacted(record, redact)
        if not isinstance(redacted, FeedbackRecord):
            raise Refused("the feedback was not kept: its text could not be redacted", hint="ask the operator")
        captures.feedback(redacted)

    def _record(self, call: Call, kept: Kept, rows: list[Row]) -> CaptureRecord:
        version, now = call.choice.version, self._clock()
        assert version is not None, "what is captured was answered by one adapter"
        return CaptureRecord(
            request_id=call.record_id(rows[0]),
            time=now,
            asked_at=now - call.trace.elapsed_s(),
            session=session_of(call),
            users=names_of(call.question.people, call.tenant.pseudonyms),
            adapter=version.adapter,
            digest=version.digest,
            messages=kept.messages,
            prompt=kept.prompt,
            tools=kept.tools,
            response=rows[0].text,
            others=tuple(row.text for row in rows[1:] if is_whole(row)),
        )

    def _write(self, call: Call, record: CaptureRecord) -> None:
        redacted = self._redacted(record, call.choice.redact)
        if isinstance(redacted, CaptureRecord):
            call.tenant.captures.request(redacted)

    def _redacted(self, record: Record, redact: tuple[Kind, ...]) -> Record | None:
        try:
            redacted = Redaction(redact, self._own).record(record)
            lines_of([redacted])  # what cannot be written must not lie in the buffer among what can
        except Exception as error:  # noqa: BLE001 - whatever it is, the text is not kept
            self.num_unredacted += 1
            kind = type(error).__name__  # its message may hold the text
            self._log.error("not captured: the redactor failed", id=record.request_id, error=kind)
            return None
        return redacted


def is_whole(row: Row) -> bool:
    return row.finished is not None and row.failure() is None


def names_of(people: Sequence[str], pseudonyms: Pseudonyms) -> tuple[str, ...]:
    return tuple(pseudonyms.of(each) for each in people)


def session_of(call: Call) -> str:
    """What a session is kept under; a call that belongs to none, or to one that cannot be named, is one of its own."""
    if call.session == call.id or not call.tenant.pseudonyms.ready:
        return call.id
    return call.tenant.pseudonyms.of(call.session)
