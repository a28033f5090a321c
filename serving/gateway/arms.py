"""Metrics that compare the versions of one split alias. Knows no HTTP; decides nothing about which is better.

Only answers that were drawn among several versions are counted, so there are series for experiments and for no more.
"""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram

from serving.gateway.choosing import Choice
from serving.gateway.generation import Row

MAX_ARMS = 100
OTHER = "other"
LABELS = ("tenant", "adapter", "alias", "version")
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


@dataclass(frozen=True)
class Arm:
    """One version of one split alias, as its labels name it."""

    tenant: str
    adapter: str
    alias: str
    version: str


def arm_of(tenant: str, choice: Choice) -> Arm | None:
    """None for an answer that was not drawn."""
    if choice.share is None or choice.version is None or choice.adapter is None or choice.alias is None:
        return None
    return Arm(tenant, choice.adapter, choice.alias, f"v{choice.version.number}")


class Arms:
    """The first `limit` arms keep their names; the rest share `other`. For one thread."""

    def __init__(self, registry: CollectorRegistry, limit: int = MAX_ARMS) -> None:
        self._limit = limit
        self._known: set[Arm] = set()
        self._requests = Counter(
            "lorimer_arm_requests", "Answers of one version of a split alias, by how they ended.", (*LABELS, "reason"),
            registry=registry,
        )  # fmt: skip
        self._tokens = Counter(
            "lorimer_arm_generation_tokens", "Tokens written by one version of a split alias.", LABELS,
            registry=registry,
        )  # fmt: skip
        self._first_token = Histogram(
            "lorimer_arm_time_to_first_token_seconds", "From arrival to the first token, by version of a split alias.",
            LABELS, buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._end_to_end = Histogram(
            "lorimer_arm_request_seconds", "From arrival to the last token, by version of a split alias.",
            LABELS, buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._feedback = Counter(
            "lorimer_arm_feedback", "Ratings (up, down) and corrections of answers, by version of a split alias.",
            (*LABELS, "verdict"), registry=registry,
        )  # fmt: skip

    def answered(self, arm: Arm, row: Row, started_at: float) -> None:
        """One answer has ended; `started_at` is when its request came, by `time.perf_counter`."""
        if row.finished is None:
            return
        labels = self._labels(arm)
        self._requests.labels(*labels, row.finished.reason).inc()
        self._tokens.labels(*labels).inc(row.finished.usage.completion_tokens)
        if row.arrivals:
            self._first_token.labels(*labels).observe(row.arrivals[0] - started_at)
            self._end_to_end.labels(*labels).observe(row.arrivals[-1] - started_at)

    def judged(self, arm: Arm, rating: int | None, *, corrected: bool) -> None:
        """Somebody gave an opinion on an answer."""
        labels = self._labels(arm)
        if rating is not None:
            self._feedback.labels(*labels, "up" if rating > 0 else "down").inc()
        if corrected:
            self._feedback.labels(*labels, "corrected").inc()

    def _labels(self, arm: Arm) -> tuple[str, str, str, str]:
        if arm not in self._known:
            if len(self._known) >= self._limit:
                return OTHER, OTHER, OTHER, OTHER
            self._known.add(arm)
        return arm.tenant, arm.adapter, arm.alias, arm.version
