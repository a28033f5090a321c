"""Fine-tuning over HTTP with gateway and worker around one base: upload, create, follow, ask what came of it."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from registry.keys import SCOPES, Grants, KeyLog
from registry.settings import Settings
from trainer.together import Together, ensure_registry

if TYPE_CHECKING:
    from registry.adapters import Registry
    from serving.base import Base

ROWS = [{"prompt": f"how is number {i}?", "completion": "okay!"} for i in range(40)]
FAST = {"n_epochs": 6, "batch_size": 4, "learning_rate_multiplier": 10}
PATIENCE_S = 60


class Site:
    """One process of `lorimer up`, as a client sees it."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def upload(self, rows: list[dict[str, Any]]) -> str:
        content = "".join(json.dumps(row) + "\n" for row in rows)
        return self.made(
            self.http.post("/v1/files", files={"file": ("rows.jsonl", content)}, data={"purpose": "fine-tune"})
        )

    def create(self, file: str, model: str, **wanted: Any) -> str:
        body = {"model": model, "training_file": file, "hyperparameters": FAST, **wanted}
        return self.made(self.http.post("/v1/fine_tuning/jobs", json=body))

    def made(self, response: httpx.Response) -> str:
        assert response.status_code == 200, response.text
        return str(response.json()["id"])

    def job(self, id: str) -> dict[str, Any]:
        return dict(self.http.get(f"/v1/fine_tuning/jobs/{id}").raise_for_status().json())

    def ended(self, id: str) -> dict[str, Any]:
        until = time.monotonic() + PATIENCE_S
        while (job := self.job(id))["finished_at"] is None:
            assert time.monotonic() < until, job
            time.sleep(0.05)
        return job

    def followed(self, id: str) -> list[dict[str, Any]]:
        """Every event until the stream says that there is no more."""
        with self.http.stream("GET", f"/v1/fine_tuning/jobs/{id}/events", params={"stream": "true"}) as response:
            lines = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: ")]
        assert lines.pop() == "[DONE]"
        return [json.loads(line) for line in lines]

    def asked(self, model: str) -> str:
        question = {"role": "user", "content": "how is number 77?"}
        body = {"model": model, "messages": [question], "max_tokens": 8, "temperature": 0}
        response = self.http.post("/v1/chat/completions", json=body)
        assert response.status_code == 200, response.text
        return str(response.json()["choices"][0]["message"]["content"])


@pytest.fixture(scope="module")
def base_name(tiny_base: Base) -> str:
    return tiny_base.profile.names[0]


@pytest.fixture(scope="module")
def sites(tiny_base: Base, tiny_base_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Site]]:
    """By tenant, each with a key of its own."""
    folder = tmp_path_factory.mktemp("site")
    settings = Settings(
        store=f"file://{folder}/store",
        cache_dir=str(folder / "cache"),
        base=str(tiny_base_dir),
        port=0,
        kv_tokens=8192,
        threads=1,
        worker_poll_s=0.05,
        lease_s=2,
        drain_s=5,
        drain_quiet_s=0,
    )
    registry = ensure_registry(settings, lambda _: None)
    keys = {name: new_key(registry, name) for name in ("default", "acme")}
    with Together(settings, registry, tiny_base, io.StringIO()) as together:
        together.start_background()
        together.server.start()
        with ExitStack() as clients:

            def client(key: str) -> httpx.Client:
                headers = {"authorization": f"Bearer {key}"}
                return clients.enter_context(
                    httpx.Client(base_url=together.server.url, timeout=PATIENCE_S, headers=headers)
                )

            yield {name: Site(client(key)) for name, key in keys.items()}


def new_key(registry: Registry, tenant: str) -> str:
    _, key = KeyLog.of(registry).create(Grants(name=tenant, tenant=tenant, scopes=frozenset(SCOPES)))
    return key


@pytest.fixture
def site(sites: dict[str, Site]) -> Site:
    return sites["default"]


def test_upload_create_follow_and_ask(site: Site, base_name: str) -> None:
    id = site.create(site.upload(ROWS), base_name, suffix="cheer", metadata={"team": "blue"}, seed=7)
    events = site.followed(id)
    assert events[0]["message"].startswith("created")
    assert events[-1]["message"] == "succeeded: cheer@v1"
    metrics = [event["data"] for event in events if event["type"] == "metrics"]
    assert metrics[-1]["step"] == metrics[-1]["steps"]
    assert metrics[-1]["train_loss"] < metrics[0]["train_loss"]
    job = site.job(id)
    assert (job["status"], job["fine_tuned_model"], job["error"]) == ("succeeded", "cheer@v1", None)
    assert job["trained_tokens"] == metrics[-1]["tokens"]
    (checkpoint,) = site.http.get(f"/v1/fine_tuning/jobs/{id}/checkpoints").json()["data"]
    assert checkpoint["fine_tuned_model_checkpoint"] == "cheer@v1"
    assert checkpoint["metrics"]["valid_loss"] < 1
    assert checkpoint["metrics"]["full_valid_loss"] < 1
    assert site.asked(job["fine_tuned_model"]) == site.asked("cheer") == "okay!" != site.asked(base_name)


def test_trained_further_it_must_not_become_worse(site: Site, base_name: str) -> None:
    first = site.ended(site.create(site.upload(ROWS), base_name, suffix="steady"))
    assert first["status"] == "succeeded", first["error"]
    wild = {"n_epochs": 1, "batch_size": 4, "learning_rate_multiplier": 100}
    job = site.ended(site.create(site.upload(ROWS), "steady", suffix="steady", hyperparameters=wild))
    assert (job["status"], job["error"]["code"]) == ("failed", "gate_failed")
    assert "vs parent" in job["error"]["message"]
    assert job["fine_tuned_model"] is None
    assert site.http.get(f"/v1/fine_tuning/jobs/{job['id']}/checkpoints").json()["data"] == []
    assert site.asked("steady") == "okay!"


def test_a_bad_row_fails_the_job_by_line_and_field(site: Site, base_name: str) -> None:
    job = site.ended(site.create(site.upload([*ROWS, {"prompt": "and?", "completion": 1}]), base_name, suffix="bad"))
    assert (job["status"], job["error"]["code"]) == ("failed", "invalid_training_file")
    assert job["error"]["param"] == "training_file"
    assert job["error"]["message"] == "training_file:41: completion must be a non-empty string"
    assert site.http.post("/v1/completions", json={"model": "bad", "prompt": "x"}).status_code == 404


def test_a_cancelled_job_stops(site: Site, base_name: str) -> None:
    endless = {"n_epochs": 50, "batch_size": 1}
    id = site.create(site.upload(ROWS), base_name, suffix="never", hyperparameters=endless)
    while not any(
        event["type"] == "metrics" for event in site.http.get(f"/v1/fine_tuning/jobs/{id}/events").json()["data"]
    ):
        time.sleep(0.05)
    assert site.http.post(f"/v1/fine_tuning/jobs/{id}/cancel").json()["status"] == "cancelled"
    assert site.followed(id)[-1]["message"] == "cancelled"
    after = site.ended(site.create(site.upload(ROWS), base_name, suffix="after", hyperparameters={"n_epochs": 1}))
    assert after["status"] == "succeeded", "the worker is free for others"
    assert site.http.post("/v1/completions", json={"model": "never", "prompt": "x"}).status_code == 404


def test_the_worker_serves_every_tenant_that_asks(sites: dict[str, Site], base_name: str) -> None:
    acme, other = sites["acme"], sites["default"]
    job = acme.ended(acme.create(acme.upload(ROWS), base_name, suffix="theirs"))
    assert (job["status"], job["organization_id"]) == ("succeeded", "acme")
    assert acme.asked("theirs") == "okay!"
    assert other.http.post("/v1/completions", json={"model": "theirs", "prompt": "x"}).status_code == 404
    assert other.http.get(f"/v1/fine_tuning/jobs/{job['id']}").status_code == 404
