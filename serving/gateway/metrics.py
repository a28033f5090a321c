"""Prometheus metrics of one gateway, prefix `lorimer_`. The adapter label is bounded. Knows no HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.registry import Collector

BASE = "base"
OTHER = "other"
MAX_ADAPTERS = 200

_TOKEN_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.5)
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class AdapterLabels:
    """The first `limit` adapters keep their names; the rest share `other`, so that no caller can grow the series."""

    def __init__(self, limit: int = MAX_ADAPTERS) -> None:
        self._limit = limit
        self._names: set[str] = {BASE, OTHER}

    def of(self, adapter: str | None) -> str:
        name = adapter or BASE
        if name not in self._names:
            if len(self._names) >= self._limit + 2:
                return OTHER
            self._names.add(name)
        return name


class Metrics:
    """What the gateway counts itself; gauges read the engine and the residency when scraped."""

    def __init__(self, collectors: Iterable[Collector] = ()) -> None:
        self.registry = CollectorRegistry()
        self.adapters = AdapterLabels()
        by_adapter = ("adapter",)

        def histogram(name: str, text: str, buckets: tuple[float, ...] = _SECONDS) -> Histogram:
            return Histogram(f"lorimer_{name}", text, by_adapter, buckets=buckets, registry=self.registry)

        def counter(name: str, text: str, labels: tuple[str, ...]) -> Counter:
            return Counter(f"lorimer_{name}", text, labels, registry=self.registry)

        self.first_token = histogram("time_to_first_token_seconds", "From arrival to the first token.")
        self.inter_token = histogram("inter_token_seconds", "Between two tokens of one answer.", _TOKEN_SECONDS)
        self.end_to_end = histogram("request_seconds", "From arrival to the last token.")
        self.queue = histogram("queue_seconds", "Waiting for a place in the batch.")
        self.prefill = histogram("prefill_seconds", "Reading the prompt.")
        self.decode = histogram("decode_seconds", "Writing the answer.")
        self.load = histogram("adapter_load_seconds", "Making an adapter resident.")
        self.prompt_tokens = counter("prompt_tokens", "Prompt tokens read.", by_adapter)
        self.generated_tokens = counter("generation_tokens", "Tokens written.", by_adapter)
        self.requests = counter("requests", "Answers ended, by how.", ("adapter", "reason"))
        self.rejects = counter("rejects", "Requests turned away, by error code.", ("reason",))
        for collector in collectors:
            self.registry.register(collector)

    def watch(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A gauge whose value is read at every scrape."""
        Gauge(f"lorimer_{name}", text, registry=self.registry).set_function(read)

    def render(self) -> bytes:
        return generate_latest(self.registry)
