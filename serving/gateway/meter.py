"""From an ended call to the metrics it is counted in. Called on the event loop; decides nothing."""

from __future__ import annotations

from itertools import pairwise

from serving.gateway.arms import Arm, arm_of
from serving.gateway.calls import Call
from serving.gateway.generation import Row
from serving.gateway.metrics import BASE, Metrics
from serving.gateway.popular import Seat
from serving.gateway.vllm_metrics import VllmMetrics
from serving.request import Finished


class Meter:
    """`aliases` counts everything a second time under vLLM's names; None where nobody asked for them."""

    def __init__(self, metrics: Metrics, aliases: VllmMetrics | None = None) -> None:
        self._metrics = metrics
        self._aliases = aliases

    def began(self, call: Call) -> None:
        """The call's rows are about to be submitted."""
        if self._aliases is not None:
            self._aliases.began(call)

    def ended(self, call: Call) -> None:
        """Every row of the call has ended, one way or another."""
        arm = arm_of(call.tenant.name, call.choice)
        seat = self._metrics.adapters.of(call.tenant.name, call.choice.label or BASE)
        if call.choice.digest is not None and "load" in call.trace.seconds:
            self._metrics.load.labels(*seat).observe(call.trace.seconds["load"])
        for row in call.generation.rows:
            if row.finished is not None:
                self._row(call, row, row.finished, seat)
                if arm is not None:
                    self._metrics.arms.answered(arm, row, call.trace.started_at)
        if self._aliases is not None:
            self._aliases.ended(call)

    def judged(self, arm: Arm, rating: int | None, *, corrected: bool) -> None:
        """Feedback on an earlier answer by one version of a split alias."""
        self._metrics.arms.judged(arm, rating, corrected=corrected)

    def _row(self, call: Call, row: Row, finished: Finished, seat: Seat) -> None:
        metrics, timings, usage = self._metrics, finished.timings, finished.usage
        metrics.requests.labels(*seat, finished.reason).inc()
        metrics.prompt_tokens.labels(*seat).inc(usage.prompt_tokens)
        metrics.generated_tokens.labels(*seat).inc(usage.completion_tokens)
        metrics.prompt_length.labels(seat.tenant).observe(usage.prompt_tokens)
        metrics.answer_length.labels(seat.tenant).observe(usage.completion_tokens)
        metrics.queue.labels(seat.tenant).observe(timings.queued_s)
        metrics.prefill.labels(seat.tenant).observe(timings.prefill_s)
        metrics.decode.labels(seat.tenant).observe(timings.decode_s)
        if row.arrivals:
            metrics.first_token.labels(*seat).observe(row.arrivals[0] - call.trace.started_at)
            metrics.end_to_end.labels(*seat).observe(row.arrivals[-1] - call.trace.started_at)
        inter_token = metrics.inter_token.labels(*seat)
        for before, after in pairwise(row.arrivals):
            inter_token.observe(after - before)
