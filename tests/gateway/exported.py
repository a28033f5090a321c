"""Every metric that a gateway exports: its kind, its labels, what it says; asked of the running parts themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.metrics import MetricWrapperBase

from monitoring.metrics import DriftCollector

SUFFIXES = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_sum", "_count"),
    "gauge": ("",),
    "summary": ("_count", "_sum"),
}


@dataclass(frozen=True)
class Exported:
    name: str
    kind: str
    labels: tuple[str, ...]
    text: str

    @property
    def samples(self) -> list[str]:
        return [f"{self.name}{suffix}" for suffix in SUFFIXES[self.kind]]


def exported(registry: CollectorRegistry) -> list[Exported]:
    """In alphabetical order."""
    found: list[Exported] = []
    for collector in list(registry._collector_to_names):
        if isinstance(collector, MetricWrapperBase):
            found += [_exported(each, collector._labelnames) for each in collector.describe()]
        else:
            found += [_exported(each, _labels(each)) for each in collector.collect()]
    return sorted(found, key=lambda each: each.name)


def _exported(metric: Metric, labels: Iterable[str]) -> Exported:
    return Exported(metric.name, metric.type, tuple(labels), metric.documentation)


def _labels(metric: Metric) -> tuple[str, ...]:
    return tuple(metric.samples[0].labels) if metric.samples else ()


class Watched:
    """A monitor with one adapter that was retrained once, as the collector of drift metrics sees it."""

    def adapters(self) -> list[str]:
        return ["support"]

    def status(self, adapter: str) -> dict[str, Any]:
        numbers = dict.fromkeys(
            ("log_evidence", "log_threshold", "mmd", "observations", "alarms", "expected_false_alarms"), 1.0
        )
        return {"adapter": adapter, "state": "OK", "retrained": {"promoted": 1}, **numbers}


def with_drift(registry: CollectorRegistry) -> Iterator[Exported]:
    """What `registry` exports, and what a monitor beside it would."""
    yield from exported(registry)
    beside = CollectorRegistry()
    beside.register(DriftCollector(Watched()))
    yield from exported(beside)


def table(found: Iterable[Exported]) -> str:
    """As the documentation shows it."""
    rows = [
        f"| `{each.name}{'_total' if each.kind == 'counter' else ''}` | {each.kind} "
        f"| {', '.join(each.labels)} | {each.text} |"
        for each in sorted(found, key=lambda each: each.name)
    ]
    return "\n".join(["| metric | type | labels | says |", "|---|---|---|---|", *rows])
