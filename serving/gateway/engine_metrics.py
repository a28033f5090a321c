"""The engine's accounts as Prometheus metrics, from one reading for each scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.engine import Engine
from serving.quarantine import Quarantine
from serving.stats import EngineStats

Read = Callable[[EngineStats], float]

GAUGES: dict[str, tuple[Read, str]] = {
    "running": (lambda stats: stats.running, "Rows in the batch."),
    "waiting": (lambda stats: stats.waiting, "Rows waiting for a place in the batch."),
    "kv_use": (lambda stats: stats.kv_used / max(stats.kv_total, 1), "Share of the KV cache in use by rows."),
    "kv_kept": (lambda stats: stats.kv_cached / max(stats.kv_total, 1), "Share of the KV cache kept for prefixes."),
    "batch_adapters": (lambda stats: stats.last_distinct_adapters, "Distinct adapters in the latest step."),
}
COUNTERS: dict[str, tuple[Read, str]] = {
    "steps": (lambda stats: stats.steps, "Forward passes."),
    "step_seconds": (lambda stats: stats.busy_s, "Seconds spent in forward passes."),
    "preemptions": (lambda stats: stats.preemptions, "Rows that lost their place and began anew."),
    "prefix_hits": (lambda stats: stats.prefix_hits, "Rows that began with a prefix computed before."),
    "prefix_tokens": (lambda stats: stats.prefix_tokens_reused, "Prompt tokens that were not computed again."),
    "failed_rows": (lambda stats: stats.failed_rows, "Rows that ended with an error of their own."),
}


class EngineCollector(Collector):
    def __init__(self, engine: Engine, quarantine: Quarantine) -> None:
        self._engine = engine
        self._quarantine = quarantine

    def collect(self) -> Iterator[Metric]:
        stats = self._engine.stats()
        for name, (read, text) in GAUGES.items():
            yield GaugeMetricFamily(f"lorimer_{name}", text, value=read(stats))
        for name, (read, text) in COUNTERS.items():
            yield CounterMetricFamily(f"lorimer_{name}", text, value=read(stats))
        quarantined = len(self._quarantine.cases())
        yield GaugeMetricFamily("lorimer_quarantined", "Versions in quarantine.", value=quarantined)
        alive = float(self._engine.is_running)
        yield GaugeMetricFamily("lorimer_engine_up", "1 while the engine takes requests.", value=alive)
