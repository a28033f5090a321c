"""Prometheus metrics of one gateway, prefix `lorimer_`. Labels are bounded. Knows no HTTP and no call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.metadata import version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from serving.gateway.arms import Arms
from serving.gateway.choosing import MIX
from serving.gateway.popular import Popular, Seat

BASE = "base"
MAX_ADAPTERS = 200
BY_ADAPTER = ("tenant", "adapter")
BY_TENANT = ("tenant",)
"""Of what differs little between adapters: each histogram by adapter is some 3,000 lines of every scrape."""

_TOKEN_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.5)
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16_384, 65_536)


class Metrics:
    """What the gateway counts itself; collectors read other parts' accounts when scraped."""

    def __init__(self, collectors: Iterable[Collector] = (), max_adapters: int = MAX_ADAPTERS) -> None:
        # of the whole process: they would be a tenth of every scrape, and nobody reads them
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.adapters = Popular(max_adapters, self._drop, always=(BASE, MIX))
        self._by_adapter: list[MetricWrapperBase] = []
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.first_token = self._histogram("time_to_first_token_seconds", "From arrival to the first token.")
        self.inter_token = self._histogram("inter_token_seconds", "Between two tokens of one answer.", _TOKEN_SECONDS)
        self.end_to_end = self._histogram("request_seconds", "From arrival to the last token.")
        self.queue = self._by_tenant("queue_seconds", "Waiting for a place in the batch.")
        self.prefill = self._by_tenant("prefill_seconds", "Reading the prompt.")
        self.decode = self._by_tenant("decode_seconds", "Writing the answer.")
        self.load = self._histogram("adapter_load_seconds", "Waiting for the adapter to be in memory.")
        self.prompt_length = self._by_tenant("request_prompt_tokens", "Tokens of one prompt.", _TOKENS)
        self.answer_length = self._by_tenant("request_generation_tokens", "Tokens of one answer.", _TOKENS)
        self.prompt_tokens = self._counter("prompt_tokens", "Prompt tokens read.")
        self.generated_tokens = self._counter("generation_tokens", "Tokens written.")
        self.requests = self._counter("requests", "Answers ended, by how.", (*BY_ADAPTER, "reason"))
        self.rejects = self._counter("rejects", "Requests turned away, by error code.", ("reason",))
        self.http = self._counter("http_requests", "Requests by route and status.", ("method", "route", "status"))
        self.arms = Arms(self.registry)
        build = Gauge(
            "lorimer_build_info", "Which version of the program runs here.", ("version",), registry=self.registry
        )
        build.labels(version("lorimer")).set(1)
        for collector in collectors:
            self.registry.register(collector)

    def render(self) -> bytes:
        return generate_latest(self.registry)

    def _by_tenant(self, name: str, text: str, buckets: Sequence[float] = _SECONDS) -> Histogram:
        return Histogram(f"lorimer_{name}", text, BY_TENANT, buckets=buckets, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float] = _SECONDS) -> Histogram:
        made = Histogram(f"lorimer_{name}", text, BY_ADAPTER, buckets=buckets, registry=self.registry)
        self._by_adapter.append(made)
        return made

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = BY_ADAPTER) -> Counter:
        made = Counter(f"lorimer_{name}", text, labels, registry=self.registry)
        if "adapter" in labels:
            self._by_adapter.append(made)
        return made

    def _drop(self, seat: Seat) -> None:
        for metric in self._by_adapter:
            metric.remove_by_labels(seat._asdict())
