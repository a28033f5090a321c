"""What an ended call leaves behind: metrics, an observation, a capture, and what feedback is checked against.

Called on the event loop; whatever may block is handed to a thread. Decides nothing about drift.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from monitoring.observation import Observation, prompt_scalars
from registry.captures.redaction import Kind
from serving.gateway.arms import Arm, arm_of
from serving.gateway.calls import Call
from serving.gateway.capturing import Capturing, is_whole, session_of
from serving.gateway.generation import Row
from serving.gateway.meter import Meter
from serving.gateway.tracing import Tracing

MAX_REMEMBERED = 65_536


@dataclass(frozen=True, slots=True)
class Answered:
    """Who answered an earlier request."""

    call_id: str
    adapter: str | None
    arm: Arm | None = None
    """Which version of a split alias it was."""
    redact: tuple[Kind, ...] = ()
    """What is to be taken out of feedback on it."""


class Recorder:
    def __init__(
        self,
        meter: Meter,
        tracing: Tracing,
        capturing: Capturing,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._meter = meter
        self._tracing = tracing
        self.capturing = capturing
        self._clock = clock
        self._answered: OrderedDict[tuple[str, str], Answered] = OrderedDict()
        """By tenant and id: nobody finds the requests of another tenant."""

    def remember(self, call: Call) -> None:
        """So that feedback may name the call by its id or by the `x-request-id` it travelled under."""
        self._meter.began(call)
        self._tracing.began(call)
        choice = call.choice
        answered = Answered(call.id, choice.adapter, arm_of(call.tenant.name, choice), choice.redact)
        for request_id in (call.id, call.trace.request_id):
            self._answered[call.tenant.name, request_id] = answered
        if call.num_prompts > 1:
            for row in call.generation.rows[:: call.question.per_prompt]:
                self._answered[call.tenant.name, row.request.id] = replace(answered, call_id=row.request.id)
        while len(self._answered) > MAX_REMEMBERED:
            self._answered.popitem(last=False)

    def find(self, tenant: str, request_id: str) -> Answered | None:
        return self._answered.get((tenant, request_id))

    def judged(self, answered: Answered, rating: int | None, *, corrected: bool) -> None:
        """Feedback on an earlier answer was taken."""
        if answered.arm is not None:
            self._meter.judged(answered.arm, rating, corrected=corrected)

    def record(self, call: Call) -> None:
        """Every row of the call has ended, one way or another."""
        self._meter.ended(call)
        self._tracing.ended(call)
        self._tell(call)
        if call.choice.version is None or not is_whole(call.generation.rows[0]):
            return
        if call.question.is_observed:
            for each in call.generation.rows:
                self._observe(call, each)
        self.capturing.keep(call)

    def _observe(self, call: Call, row: Row) -> None:
        version = call.choice.version
        if version is None or call.choice.is_shared or row.finished is None or row.finished.features is None:
            return
        features = row.finished.features
        call.tenant.sensor.observe(
            Observation(
                request_id=call.record_id(row),
                session=session_of(call),
                time=self._clock(),
                adapter=version.adapter,
                version=version.number,
                digest=version.digest,
                embedding=features.embedding_mean,
                hidden=features.hidden_mean,
                scalars={
                    **prompt_scalars(features.num_prompt_tokens),
                    "log_output_length": math.log1p(row.finished.usage.completion_tokens),
                },
            )
        )

    def _tell(self, call: Call) -> None:
        """Give the log line what only the engine knew."""
        rows, first = call.generation.rows, call.generation.rows[0].finished
        if first is None:
            return
        timings = first.timings
        call.trace.seconds |= {"queue": timings.queued_s, "prefill": timings.prefill_s, "decode": timings.decode_s}
        call.trace.fields |= {
            "id": call.id,
            "finish": first.reason,
            "prompt_tokens": len(rows[0].request.prompt),
            "tokens": sum(row.finished.usage.completion_tokens for row in rows if row.finished is not None),
        }
