"""Drift metrics for Prometheus, read from a monitor when scraped. One label, the adapter; no tenant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from monitoring.episodes import STATES

_GAUGES = (
    ("log_evidence", "log_evidence", "Layer B: log of the evidence that the input drifted."),
    ("log_threshold", "log_threshold", "Layer B: log of the threshold; an alarm is raised at or above it."),
    ("mmd", "mmd", "Distance of recent input from the reference in feature space."),
)
_COUNTERS = (
    ("observations", "observations", "Requests observed."),
    ("alarms", "alarms", "Alarms of layer B."),
    ("expected_false_alarms", "expected_false_alarms", "Alarms of layer B to be expected at most if nothing drifted."),
)


class Source(Protocol):
    """A `Monitor`, as far as this module cares."""

    def adapters(self) -> list[str]: ...
    def status(self, adapter: str) -> dict[str, Any]: ...


class DriftCollector(Collector):
    """Register it with any prometheus registry; a scrape costs no request to the store."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def describe(self) -> list[Metric]:
        """No series before the first scrape: registering must not ask the monitor."""
        return []

    def collect(self) -> Iterator[Metric]:
        statuses = [self._source.status(adapter) for adapter in self._source.adapters()]
        for name, field, text in _GAUGES:
            gauge = GaugeMetricFamily(f"lorimer_drift_{name}", text, labels=["adapter"])
            for status in statuses:
                if status[field] is not None:
                    gauge.add_metric([status["adapter"]], status[field])
            yield gauge
        for name, field, text in _COUNTERS:
            counter = CounterMetricFamily(f"lorimer_drift_{name}", text, labels=["adapter"])
            for status in statuses:
                counter.add_metric([status["adapter"]], status[field])
            yield counter
        yield self._states(statuses)
        yield self._retrained(statuses)

    def _states(self, statuses: list[dict[str, Any]]) -> Metric:
        text = "Where the adapter stands: " + ", ".join(f"{i} {state}" for i, state in enumerate(STATES)) + "."
        gauge = GaugeMetricFamily("lorimer_drift_state", text, labels=["adapter"])
        for status in statuses:
            gauge.add_metric([status["adapter"]], STATES.index(status["state"]))
        return gauge

    def _retrained(self, statuses: list[dict[str, Any]]) -> Metric:
        text = "Retrainings that drift led to, by outcome."
        counter = CounterMetricFamily("lorimer_retrain", text, labels=["adapter", "outcome"])
        for status in statuses:
            for outcome, count in sorted(status["retrained"].items()):
                counter.add_metric([status["adapter"], outcome], count)
        return counter
