"""vLLM's metrics by its names, labels and buckets, for routers, dashboards and load generators made for vLLM.

Follows vLLM 0.10 and later (its `vllm/v1/metrics`). One sample of `vllm:lora_requests_info` says which adapters run and
which wait at the moment of the scrape; vLLM itself leaves old ones standing, and readers take the one with the latest
value. What has no counterpart here is not exported: steps' token histogram, speculative decoding, KV transfer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.engine import Engine

if TYPE_CHECKING:
    from serving.gateway.calls import Call
    from serving.gateway.generation import Row
    from serving.request import Finished

ENGINE = "0"
LABELS = ("model_name", "engine")
FINISHED = {"stop": "stop", "length": "length", "abort": "abort", "deadline": "abort", "error": "error"}

_FIRST_TOKEN_S = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
    1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip
_TOKEN_S = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
_REQUEST_S = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0,
    40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0,
)  # fmt: skip
_ANSWERS = (1, 2, 5, 10, 20)


class VllmMetrics(Collector):
    """Counts calls as they end; reads the engine when scraped. `began` and `ended` are for one thread."""

    def __init__(
        self,
        registry: CollectorRegistry,
        engine: Engine,
        model_name: str,
        max_lora: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._registry = registry
        self._engine = engine
        self._model = model_name
        self._max_lora = max_lora
        self._clock = clock
        self._open: dict[str, Call] = {}
        tokens = one_two_five(engine.max_context)
        self.first_token = self._histogram(
            "time_to_first_token_seconds", "From arrival to the first token.", _FIRST_TOKEN_S
        )
        self.inter_token = self._histogram("inter_token_latency_seconds", "Between two tokens of one answer.", _TOKEN_S)
        self.output_token = self._histogram(
            "time_per_output_token_seconds", "The same, by its name before 0.11.", _TOKEN_S
        )
        self.mean_token = self._histogram(
            "request_time_per_output_token_seconds", "Mean time for one token, over an answer.", _TOKEN_S
        )
        self.end_to_end = self._histogram("e2e_request_latency_seconds", "From arrival to the last token.", _REQUEST_S)
        self.queue = self._histogram("request_queue_time_seconds", "Waiting for a place in the batch.", _REQUEST_S)
        self.inference = self._histogram("request_inference_time_seconds", "In the batch.", _REQUEST_S)
        self.prefill = self._histogram("request_prefill_time_seconds", "Reading the prompt.", _REQUEST_S)
        self.decode = self._histogram("request_decode_time_seconds", "Writing the answer.", _REQUEST_S)
        self.prompt_length = self._histogram("request_prompt_tokens", "Tokens of one prompt.", tokens)
        self.answer_length = self._histogram("request_generation_tokens", "Tokens of one answer.", tokens)
        self.max_answer_length = self._histogram(
            "request_max_num_generation_tokens", "Tokens of the longest answer to one request.", tokens
        )
        self.max_tokens = self._histogram(
            "request_params_max_tokens", "The most tokens that an answer was allowed.", tokens
        )
        self.answers = self._histogram("request_params_n", "Answers asked for to one prompt.", _ANSWERS)
        self.success = Counter(
            "vllm:request_success", "Requests ended, by how.", (*LABELS, "finished_reason"), registry=registry
        )
        for reason in FINISHED.values():
            self.success.labels(model_name, ENGINE, reason)
        registry.register(self)

    def began(self, call: Call) -> None:
        self._open[call.id] = call

    def ended(self, call: Call) -> None:
        self._open.pop(call.id, None)
        rows = [(row, row.finished) for row in call.generation.rows if row.finished is not None]
        for row, finished in rows:
            self._row(call, row, finished)
        if rows:
            self.answers.observe(len(call.generation.rows) / max(call.num_prompts, 1))
            self.max_answer_length.observe(max(finished.usage.completion_tokens for _, finished in rows))

    def collect(self) -> Iterator[Metric]:
        stats = self._engine.stats()
        use = stats.kv_used / max(stats.kv_total, 1)
        yield self._gauge("num_requests_running", "Rows in the batch.", stats.running)
        yield self._gauge("num_requests_waiting", "Rows waiting for a place in the batch.", stats.waiting)
        yield self._gauge("kv_cache_usage_perc", "Share of the KV cache in use; 1 is all of it.", use)
        yield self._gauge("gpu_cache_usage_perc", "The same, by its name before 0.10.", use)
        asked = stats.prompt_tokens + stats.prefix_tokens_reused
        yield self._counter("prefix_cache_queries", "Prompt tokens looked up among kept prefixes.", asked)
        yield self._counter("prefix_cache_hits", "Prompt tokens found there.", stats.prefix_tokens_reused)
        yield self._counter("num_preemptions", "Rows that lost their place.", stats.preemptions)
        yield self._counter("prompt_tokens", "Prompt tokens computed.", stats.prompt_tokens)
        yield self._counter("generation_tokens", "Tokens written.", stats.tokens_generated)
        yield self._loras()
        yield self._cache(stats.kv_total)

    def describe(self) -> Iterable[Metric]:
        """No series before the first scrape."""
        return []

    def _row(self, call: Call, row: Row, finished: Finished) -> None:
        timings, usage = finished.timings, finished.usage
        self.success.labels(self._model, ENGINE, FINISHED[finished.reason]).inc()
        self.queue.observe(timings.queued_s)
        self.prefill.observe(timings.prefill_s)
        self.decode.observe(timings.decode_s)
        self.inference.observe(timings.prefill_s + timings.decode_s)
        self.prompt_length.observe(usage.prompt_tokens)
        self.answer_length.observe(usage.completion_tokens)
        self.max_tokens.observe(row.request.sampling.max_tokens)
        if row.arrivals:
            self.first_token.observe(row.arrivals[0] - call.trace.started_at)
            self.end_to_end.observe(row.arrivals[-1] - call.trace.started_at)
        if len(row.arrivals) > 1:
            self.mean_token.observe((row.arrivals[-1] - row.arrivals[0]) / (len(row.arrivals) - 1))
        for before, after in pairwise(row.arrivals):
            self.inter_token.observe(after - before)
            self.output_token.observe(after - before)

    def _loras(self) -> Metric:
        """Names as requests write them, as routers compare them; no name has a comma."""
        begun = self._engine.begun()
        running: set[str] = set()
        waiting: set[str] = set()
        for call in list(self._open.values()):
            if call.choice.digest is not None:
                runs = any(row.request.id in begun for row in call.generation.rows)
                (running if runs else waiting).update(names_of(call))
        values = str(self._max_lora), ",".join(sorted(waiting)), ",".join(sorted(running))
        labels = ("max_lora", "waiting_lora_adapters", "running_lora_adapters")
        told = GaugeMetricFamily("vllm:lora_requests_info", "Adapters that run and wait, and when.", labels=labels)
        told.add_metric(values, self._clock())
        return told

    def _cache(self, positions: int) -> Metric:
        labels = ("block_size", "num_gpu_blocks", "enable_prefix_caching", "engine")
        told = GaugeMetricFamily("vllm:cache_config_info", "The KV cache, in blocks of one position.", labels=labels)
        told.add_metric(("1", str(positions), "True", ENGINE), 1)
        return told

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        told = GaugeMetricFamily(f"vllm:{name}", text, labels=LABELS)
        told.add_metric((self._model, ENGINE), value)
        return told

    def _counter(self, name: str, text: str, value: float) -> Metric:
        told = CounterMetricFamily(f"vllm:{name}", text, labels=LABELS)
        told.add_metric((self._model, ENGINE), value)
        return told

    def _histogram(self, name: str, text: str, buckets: Sequence[float]) -> Histogram:
        made = Histogram(f"vllm:{name}", text, LABELS, buckets=buckets, registry=self._registry)
        return made.labels(self._model, ENGINE)


def names_of(call: Call) -> list[str]:
    """What the request called its adapters."""
    if call.choice.parts:
        return [part.version.adapter for part in call.choice.parts]
    return [call.choice.requested]


def one_two_five(largest: int) -> list[int]:
    """1, 2, 5, 10, 20 ... up to `largest`."""
    steps = (digit * 10**power for power in range(10) for digit in (1, 2, 5))
    return [step for step in steps if step <= largest]
