"""A version whose numbers overflow while serving: its request errors, the version is shut out, nothing else notices."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from msgspec import UNSET
from safetensors.numpy import load_file, save_file

from tests.gateway.conftest import write_adapter

if TYPE_CHECKING:
    from pathlib import Path

    from tests.gateway.conftest import Running


def overflowing(directory: Path, running: Running, seed: int) -> Path:
    """Finite weights, as a push demands, whose product is not."""
    write_adapter(directory, running.base, seed)
    weights = load_file(directory / "adapter_model.safetensors")
    save_file({name: 3e37 * values for name, values in weights.items()}, directory / "adapter_model.safetensors")
    return directory


def publish_bad(running: Running, tmp_path: Path, name: str, seed: int = 1) -> str:
    directory = overflowing(tmp_path / name, running, seed)
    version = running.registry.publish(name, directory, profile=running.base.profile, aliases={"prod": UNSET})
    return version.digest


def test_the_version_is_shut_out_and_everything_else_goes_on(running: Running, tmp_path: Path) -> None:
    digest = publish_bad(running, tmp_path, "bad")
    alone = {name: running.chat(name, max_tokens=60, ignore_eos=True).json()["choices"] for name in ("alpha", "beta")}
    beside: dict[str, Any] = {}
    threads = [
        threading.Thread(
            target=lambda name=name: beside.update(
                {name: running.chat(name, max_tokens=60, ignore_eos=True).json()["choices"]}
            )
        )
        for name in alone
    ]
    for thread in threads:
        thread.start()
    first = running.chat("bad")
    for thread in threads:
        thread.join()
    assert beside == alone, "batch mates get the same answers"
    assert (first.status_code, first.json()["error"]["code"]) == (500, "corrupt")
    again = running.chat("bad")
    assert (again.status_code, again.json()["error"]["code"]) == (503, "adapter_quarantined")
    assert again.headers["x-should-retry"] == "false"
    assert "bad@v1" in again.json()["error"]["message"]
    by_digest = running.chat(f"bad@{digest}")
    assert by_digest.status_code == 503, "whatever it is called"
    (case,) = [case for case in cases(running.http) if case["digest"] == digest]
    assert (case["name"], case["times"], case["refused"]) == ("bad@v1", 1, 2)
    assert "not finite" in case["reason"]
    assert running.http.get("/ready").status_code == 200
    metrics = running.http.get("/metrics").text
    assert 'lorimer_rejects_total{reason="adapter_quarantined"} 2.0' in metrics
    assert "lorimer_quarantined 1.0" in metrics
    assert running.http.post(f"/api/quarantine/{digest}/release").status_code == 200


def cases(http: httpx.Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = http.get("/api/quarantine").json()["quarantined"]
    return found


def test_a_sound_version_takes_over_and_a_release_gives_another_chance(running: Running, tmp_path: Path) -> None:
    digest = publish_bad(running, tmp_path, "shaky", seed=2)
    assert running.chat("shaky").status_code == 500
    assert running.chat("shaky").status_code == 503
    sound = running.publish("shaky", 5)
    answer = running.chat("shaky")
    assert answer.headers["x-adapter-digest"] == sound.digest
    assert running.chat("shaky@v1").status_code == 503, "the version, not the adapter"
    assert running.http.post(f"/api/quarantine/{digest}/release").json()["digest"] == digest
    assert running.chat("shaky@v1").status_code == 500, "it is served once more, and caught once more"
    assert running.http.post(f"/api/quarantine/{digest}/release").status_code == 200
    assert running.http.post(f"/api/quarantine/{digest}/release").status_code == 404


def test_a_stream_ends_with_the_error(running: Running, tmp_path: Path) -> None:
    digest = publish_bad(running, tmp_path, "streamed", seed=3)
    body = {"model": "streamed", "messages": [{"role": "user", "content": "x"}], "stream": True}
    response = running.http.post("/v1/chat/completions", json=body)
    assert '"code":"corrupt"' in response.text
    running.http.post(f"/api/quarantine/{digest}/release")


@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_a_mix_with_it_is_shut_out_too(running: Running, tmp_path: Path, weight: float) -> None:
    name = f"part-{weight:g}".replace(".", "-")
    digest = publish_bad(running, tmp_path, name, seed=4 + round(weight))
    parts = [{"model": "alpha", "weight": 1.0}, {"model": name, "weight": weight}]
    assert running.chat(running.base_name, adapters=parts).status_code == 500
    refused = running.chat(running.base_name, adapters=parts)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "adapter_quarantined")
    assert running.chat("alpha").status_code == 200, "a mix does not blame its parts"
    assert running.chat(name).status_code == 500
    assert running.chat(running.base_name, adapters=[{"model": "beta", "weight": 1}, parts[1]]).status_code == 503
    for case in cases(running.http):
        if case["digest"] == digest or case["digest"].startswith("mix:"):
            running.http.post(f"/api/quarantine/{case['digest']}/release")
