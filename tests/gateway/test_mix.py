"""A weighted mix of adapters in one request, over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from serving.mix import mix
from serving.request import Request, Sampling

if TYPE_CHECKING:
    from tests.gateway.conftest import Running

PARTS = [{"model": "alpha", "weight": 0.7}, {"model": "beta@prod", "weight": 0.3}]


def test_a_mix_is_what_the_engine_makes_of_its_parts(running: Running) -> None:
    response = running.chat(running.base_name, adapters=PARTS, max_tokens=16)
    assert response.status_code == 200, response.text
    versions = [running.registry.resolve(name) for name in ("alpha", "beta")]
    leases = [running.gateway.residency.acquire(version.digest) for version in versions]
    mixed = mix(running.base, [(leases[0].adapter, 0.7), (leases[1].adapter, 0.3)])
    prompt = tuple(running.base.render([{"role": "user", "content": "hello"}]))
    request = Request("direct", prompt, Sampling(max_tokens=16, temperature=0.0), adapter=mixed)
    (direct,) = running.gateway.engine.run([request])
    for lease in leases:
        lease.release()
    document = response.json()
    assert document["choices"][0]["message"]["content"] == direct.text
    texts = {running.chat(name, max_tokens=16).json()["choices"][0]["message"]["content"] for name in ("alpha", "beta")}
    assert direct.text not in texts
    assert document["model"] == running.base_name
    assert document["system_fingerprint"] == mixed.digest == response.headers["x-adapter-digest"]
    assert response.headers["x-adapter-mix"] == (f"{versions[0].digest};weight=0.7, {versions[1].digest};weight=0.3")
    assert "x-adapter-version" not in response.headers


def test_a_mix_is_made_once_whatever_the_order(running: Running) -> None:
    running.chat(running.base_name, adapters=PARTS)
    misses = running.gateway.residency.stats().misses
    again = running.chat(running.base_name, adapters=PARTS[::-1])
    assert again.status_code == 200
    assert running.gateway.residency.stats().misses == misses
    assert running.gateway.residency.stats().leased == 0
    streamed = running.http.post(
        "/v1/completions",
        json={"model": running.base_name, "adapters": PARTS, "prompt": "x", "max_tokens": 3, "stream": True},
    )
    assert streamed.text.rstrip().endswith("data: [DONE]")


def test_a_mix_is_not_observed_as_any_adapter(running: Running) -> None:
    """One adapter's profile of normal input must not learn from answers that it only took part in."""
    answer = running.chat(running.base_name, adapters=PARTS).json()
    running.gateway.home.sensor.flush()
    feedback = running.http.post("/v1/feedback", json={"request_id": answer["id"], "rating": 1})
    assert feedback.status_code == 400
    metrics = running.http.get("/metrics").text
    assert 'lorimer_requests_total{adapter="(mix)",reason="length",tenant="default"}' in metrics


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"model": "alpha", "adapters": PARTS}, 400, "model"),
        ({"adapters": PARTS[:1]}, 400, "adapters"),
        ({"adapters": PARTS * 5}, 400, "adapters"),
        ({"adapters": [PARTS[0], {"model": "alpha@v1", "weight": 1}]}, 400, "adapters[1].model"),
        ({"adapters": [PARTS[0], {"model": "nobody", "weight": 1}]}, 404, "model"),
        ({"adapters": [PARTS[0], {"model": "other/alpha", "weight": 1}]}, 404, "model"),
        ({"adapters": [PARTS[0], {"model": "beta", "weight": 1e9}]}, 400, "adapters[1].weight"),
        ({"adapters": [PARTS[0], {"model": "beta"}]}, 400, "adapters[1].weight"),
    ],
)
def test_odd_mixes_are_refused_by_name(running: Running, fields: dict[str, Any], status: int, param: str) -> None:
    error = running.chat(**{"model": running.base_name, **fields})
    assert (error.status_code, error.json()["error"]["param"]) == (status, param), error.text


def test_the_base_is_no_part_of_a_mix(running: Running) -> None:
    parts = [PARTS[0], {"model": running.base_name, "weight": 1}]
    error = running.chat(running.base_name, adapters=parts)
    assert (error.status_code, error.json()["error"]["param"]) == (400, "adapters[1].model")
