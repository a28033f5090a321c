"""Where adapters are, and where they came from: memory, disk, store; read once for each scrape."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from registry.cache import AdapterCache
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
    def __init__(self, residency: Residency, cache: AdapterCache) -> None:
        self._residency = residency
        self._cache = cache

    def collect(self) -> Iterator[Metric]:
        stats = self._residency.stats()
        for name, (field, text) in GAUGES.items():
            yield GaugeMetricFamily(f"lorimer_residency_{name}", text, value=getattr(stats, field))
        for name, (field, text) in COUNTERS.items():
            yield CounterMetricFamily(f"lorimer_residency_{name}", text, value=getattr(stats, field))
        yield from self._disk()

    def _disk(self) -> Iterator[Metric]:
        stats = self._cache.stats()
        text = "Having an adapter's verified files, for those that were not in memory, by where they were."
        fetches = SummaryMetricFamily("lorimer_adapter_fetch_seconds", text, labels=["tier"])
        fetches.add_metric(["disk"], stats.from_disk, stats.from_disk_s)
        fetches.add_metric(["store"], stats.from_store, stats.from_store_s)
        yield fetches
        for name, (text, value) in {
            "fetched_bytes": ("Bytes of adapters fetched from the store.", stats.fetched_bytes),
            "damaged": ("Adapters on disk whose bytes had changed; fetched again.", stats.damaged),
            "evictions": ("Adapters taken off the disk to make room.", stats.evicted),
        }.items():
            yield CounterMetricFamily(f"lorimer_cache_{name}", text, value=value)
