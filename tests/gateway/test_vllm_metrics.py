"""vLLM's names: all that its readers look for, with its labels and buckets; and one true sample about adapters."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from serving.gateway.vllm_metrics import one_two_five

if TYPE_CHECKING:
    from tests.gateway.conftest import Running

COUNTERS = {
    "prompt_tokens", "generation_tokens", "request_success", "num_preemptions", "prefix_cache_queries",
    "prefix_cache_hits",
}  # fmt: skip
GAUGES = {
    "num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "gpu_cache_usage_perc", "lora_requests_info",
    "cache_config_info",
}  # fmt: skip
HISTOGRAMS = {
    "time_to_first_token_seconds", "inter_token_latency_seconds", "time_per_output_token_seconds",
    "request_time_per_output_token_seconds", "e2e_request_latency_seconds", "request_queue_time_seconds",
    "request_inference_time_seconds", "request_prefill_time_seconds", "request_decode_time_seconds",
    "request_prompt_tokens", "request_generation_tokens", "request_max_num_generation_tokens", "request_params_n",
    "request_params_max_tokens",
}  # fmt: skip


@pytest.fixture
def aliased(start: Callable[..., Running]) -> Running:
    running = start(vllm_metric_aliases=True, max_batch=1)
    for seed, name in enumerate(("alpha", "beta"), start=1):
        running.publish(name, seed)
    return running


def families(running: Running) -> dict[str, Metric]:
    found = text_string_to_metric_families(running.http.get("/metrics").text)
    return {family.name: family for family in found if family.name.startswith("vllm:")}


def test_every_name_with_its_type_and_labels(aliased: Running) -> None:
    aliased.chat("alpha", max_tokens=4, ignore_eos=True, n=2)
    found = families(aliased)
    kinds = {name.removeprefix("vllm:"): family.type for name, family in found.items()}
    expected = {"counter": COUNTERS, "gauge": GAUGES, "histogram": HISTOGRAMS}
    assert kinds == {name: kind for kind, names in expected.items() for name in names}
    for name in (*COUNTERS, *HISTOGRAMS, "num_requests_running", "kv_cache_usage_perc"):
        for sample in found[f"vllm:{name}"].samples:
            assert sample.labels["model_name"] == aliased.base_name, sample
            assert sample.labels["engine"] == "0", sample
    values = {sample.name: sample.value for family in found.values() for sample in family.samples}
    assert values["vllm:generation_tokens_total"] == 8
    assert values["vllm:request_generation_tokens_sum"] == 8
    assert values["vllm:inter_token_latency_seconds_count"] == 6
    assert values["vllm:request_params_n_sum"] == 2
    reasons = {sample.labels["finished_reason"]: sample.value for sample in found["vllm:request_success"].samples
               if sample.name.endswith("_total")}  # fmt: skip
    assert reasons == {"stop": 0, "length": 2, "abort": 0, "error": 0}


def test_without_the_setting_there_are_none(running: Running) -> None:
    assert "vllm:" not in running.http.get("/metrics").text


def adapters(running: Running) -> tuple[set[str], set[str], Any]:
    (sample,) = families(running)["vllm:lora_requests_info"].samples
    assert sorted(sample.labels) == ["max_lora", "running_lora_adapters", "waiting_lora_adapters"]
    assert sample.labels["max_lora"] == "1"
    assert abs(sample.value - time.time()) < 5
    split = [{name for name in sample.labels[f"{state}_lora_adapters"].split(",") if name}
             for state in ("running", "waiting")]  # fmt: skip
    return split[0], split[1], sample


def until(running: Running, state: tuple[set[str], set[str]]) -> None:
    deadline = time.monotonic() + 20
    while (seen := adapters(running)[:2]) != state:
        assert time.monotonic() < deadline, f"{seen} is not {state}"
        time.sleep(0.02)


@pytest.fixture
def held(aliased: Running) -> Iterator[Running]:
    """alpha runs in the only seat, beta waits for it."""
    release = threading.Event()
    stop = aliased.gateway.engine._between_steps
    aliased.gateway.engine._between_steps = lambda step_s: (stop(step_s), release.wait(0.05))[0]
    asking = [
        threading.Thread(target=aliased.chat, args=(name,), kwargs={"max_tokens": 30, "ignore_eos": True})
        for name in ("alpha", "beta@prod")
    ]
    for each, state in zip(asking, (({"alpha"}, set()), ({"alpha"}, {"beta@prod"})), strict=True):
        each.start()
        until(aliased, state)
    yield aliased
    release.set()
    for each in asking:
        each.join()


def test_who_runs_and_who_waits_is_one_sample(held: Running) -> None:
    assert adapters(held)[:2] == ({"alpha"}, {"beta@prod"})
    until(held, ({"beta@prod"}, set()))
    until(held, (set(), set()))


def test_steps_of_lengths() -> None:
    assert one_two_five(100) == [1, 2, 5, 10, 20, 50, 100]
