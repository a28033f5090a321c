from __future__ import annotations

import re
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from tests.gateway.conftest import Running


def test_health_ready_and_version(running: Running) -> None:
    assert running.http.get("/health").json() == {"status": "ok"}
    assert running.http.get("/ready").status_code == 200
    told = running.http.get("/version").json()
    assert told["version"] == version("lorimer")
    assert told["base_weights"] == running.base.profile.identity.weights_sha256


@pytest.mark.parametrize("path", ["/health", "/ready", "/v1/models", "/openapi.json", "/nowhere"])
def test_a_head_is_a_get_without_its_body(running: Running, path: str) -> None:
    get, head = running.http.get(path), running.http.head(path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["content-type"] == get.headers["content-type"]
    assert running.http.head("/v1/feedback").status_code == 405


def test_draining_is_not_ready_but_healthy(fresh: Running) -> None:
    fresh.gateway.draining = True
    assert fresh.http.get("/ready").status_code == 503
    assert "retry-after" in fresh.http.get("/ready").headers
    assert fresh.http.get("/health").status_code == 200
    fresh.gateway.draining = False
    assert fresh.http.get("/ready").status_code == 200


def test_a_dead_engine_is_not_ready_and_says_so(fresh: Running) -> None:
    fresh.gateway.engine.close()
    assert fresh.http.get("/ready").status_code == 503
    refused = fresh.chat(fresh.base_name)
    assert refused.status_code == 503
    assert "error" in refused.json()


def samples(running: Running) -> dict[tuple[str, str], float]:
    """(metric name, adapter or reason) -> value."""
    families = text_string_to_metric_families(running.http.get("/metrics").text)
    return {
        (sample.name, sample.labels.get("adapter", sample.labels.get("reason", ""))): sample.value
        for family in families
        for sample in family.samples
        if "le" not in sample.labels
    }


def test_metrics_count_what_happened(running: Running) -> None:
    running.publish("counted", 41)
    for _ in range(3):
        running.chat("counted", max_tokens=5, ignore_eos=True)
    running.chat("nobody")
    found = samples(running)
    assert found["lorimer_generation_tokens_total", "counted"] == 15
    for name in ("time_to_first_token", "request", "adapter_load"):
        assert found[f"lorimer_{name}_seconds_count", "counted"] == 3
    for name in ("queue_seconds", "prefill_seconds", "decode_seconds", "request_prompt_tokens"):
        assert found[f"lorimer_{name}_count", ""] >= 3
    assert found["lorimer_inter_token_seconds_count", "counted"] == 12
    assert found["lorimer_rejects_total", "model_not_found"] >= 1
    assert found["lorimer_residency_bytes", ""] > 0
    assert 0 <= found["lorimer_kv_use", ""] <= 1
    assert {"lorimer_running", "lorimer_waiting"} <= {name for name, _ in found}


def test_a_monitors_collector_is_exported_too() -> None:
    from serving.gateway.metrics import Metrics

    class Drift:
        def collect(self) -> Any:
            yield GaugeMetricFamily("lorimer_drift_evidence", "Evidence.", value=2.5)

    assert re.search(rb"^lorimer_drift_evidence 2.5$", Metrics([Drift()]).render(), re.MULTILINE)
