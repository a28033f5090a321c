from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from monitoring.monitor import Monitor
from registry.jobs import Jobs

if TYPE_CHECKING:
    from tests.gateway.conftest import Running


def test_adapters_are_listed_and_shown(running: Running) -> None:
    running.publish("shown", 51, policy={"capture": True})
    listed = {each["adapter"]: each for each in running.http.get("/api/adapters").json()["adapters"]}
    assert listed["shown"]["aliases"] == {"prod": 1}
    state = running.http.get("/api/adapters/shown").json()
    version = running.registry.resolve("shown")
    assert state["aliases"] == {"prod": version.digest}
    assert state["policy"]["capture"] is True
    assert [each["digest"] for each in state["versions"]] == [version.digest]
    events = running.http.get("/api/adapters/shown/log").json()["events"]
    assert [op["op"] for op in events[0]["ops"]] == ["publish", "alias", "policy"]


def test_an_alias_is_moved_compared_and_rolled_back(running: Running) -> None:
    first, second = running.publish("led", 52), running.publish("led", 53, prod=False)
    path = "/api/adapters/led/aliases/prod"
    moved = running.http.post(path, json={"to": "v2", "expect": first.digest, "reason": "better"})
    assert moved.status_code == 200
    assert running.registry.resolve("led").digest == second.digest
    late = running.http.post(path, json={"to": "v1", "expect": first.digest})
    assert late.status_code == 409
    assert late.headers["content-type"].startswith("application/problem+json")
    assert late.json()["actual"] == second.digest
    back = running.http.post(f"{path}/rollback", json={"expect": second.digest, "reason": "worse after all"})
    assert back.json() == {"adapter": "led", "alias": "prod", "version": 1, "digest": first.digest}
    assert running.http.post(f"{path}/rollback", json={"expect": second.digest}).status_code == 409
    assert running.chat("led", max_tokens=1).headers["x-adapter-version"] == "1"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/adapters/nobody/aliases/prod", {"to": "v1"}, 404),
        ("/api/adapters/alpha/aliases/prod", {"to": "v99"}, 404),
        ("/api/adapters/alpha/aliases/v3", {"to": "v1"}, 400),
        ("/api/adapters/alpha/aliases/prod", {}, 400),
        ("/api/adapters/alpha/aliases/prod", {"to": "v1", "force": True}, 400),
        ("/api/adapters/alpha/aliases/nowhere/rollback", {}, 404),
        ("/api/adapters/ALPHA/aliases/prod", {"to": "v1"}, 400),
    ],
)
def test_refusals_are_problems(running: Running, path: str, body: dict[str, object], status: int) -> None:
    response = running.http.post(path, json=body)
    assert response.status_code == status
    assert response.headers["content-type"].startswith("application/problem+json")
    assert {"type", "title", "status", "detail"} <= set(response.json())


@pytest.mark.parametrize("path", ["/api/adapters/nobody", "/api/adapters/nobody/log"])
def test_an_unknown_adapter_is_404(running: Running, path: str) -> None:
    assert running.http.get(path).status_code == 404


def test_jobs_are_listed(running: Running) -> None:
    registry = running.registry
    Jobs(registry.store, registry.tenant).submit("job-1", {"kind": "drift-retrain", "adapter": "alpha"})
    (job,) = (each for each in running.http.get("/api/jobs").json()["jobs"] if each["key"] == "job-1")
    assert (job["key"], job["state"], job["spec"]["adapter"]) == ("job-1", "queued", "alpha")


def test_drift_without_a_monitor_tells_what_is_on_record(running: Running) -> None:
    found = {each["adapter"]: each for each in running.http.get("/api/drift").json()["adapters"]}
    assert {"alpha", "beta", "gamma"} <= set(found)
    assert found["alpha"]["state"] == "OK"
    assert "no monitor" in found["alpha"]["unwatched"]


def test_a_monitor_beside_the_gateway_is_asked(fresh: Running) -> None:
    fresh.publish("watched", 1)
    fresh.gateway.home.monitor = monitor = Monitor(fresh.registry, fresh.gateway.settings)
    fresh.chat("watched", max_tokens=1)
    fresh.gateway.home.sensor.flush()
    deadline = time.monotonic() + 10
    while not monitor.poll().num_observations:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    (status,) = fresh.http.get("/api/drift").json()["adapters"]
    assert (status["adapter"], status["observations"]) == ("watched", 1)
