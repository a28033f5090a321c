"""The residency's accounts as Prometheus metrics, read once for each scrape."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.residency import Residency

GAUGES = {
    "bytes": ("resident_bytes", "Bytes of resident adapters."),
    "loading_bytes": ("loading_bytes", "Bytes reserved by adapters that are loading."),
    "budget_bytes": ("byte_budget", "Bytes that adapters may take."),
    "adapters": ("resident", "Resident adapters."),
    "leased": ("leased", "Resident adapters that requests are using."),
    "pinned": ("pinned", "Adapters kept whether or not they are asked for."),
}
COUNTERS = {
    "hits": ("hits", "Requests whose adapter was resident."),
    "misses": ("misses", "Requests that waited for their adapter."),
    "prefetches": ("prefetches", "Adapters loaded before anybody asked."),
    "evictions": ("evictions", "Adapters evicted."),
    "overdrafts": ("overdrafts", "Loads that exceeded the byte budget because nothing could be evicted."),
    "failures": ("failures", "Loads that failed."),
    "held_back": ("held_back", "Requests answered with an earlier failure, without a new try."),
    "load_seconds": ("load_seconds", "Seconds spent loading."),
}


class ResidencyCollector(Collector):
    def __init__(self, residency: Residency) -> None:
        self._residency = residency

    def collect(self) -> Iterator[Metric]:
        stats = self._residency.stats()
        for name, (field, text) in GAUGES.items():
            yield GaugeMetricFamily(f"lorimer_residency_{name}", text, value=getattr(stats, field))
        for name, (field, text) in COUNTERS.items():
            yield CounterMetricFamily(f"lorimer_residency_{name}", text, value=getattr(stats, field))
