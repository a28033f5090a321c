"""/v1/fine_tuning/jobs with OpenAI's client, and a worker's part played through the job's own log."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import openai
import pytest
from msgspec import UNSET

from registry.jobs import Job, Jobs
from registry.keys import Grants, KeyLog
from registry.tuning import read_tune_job
from serving.gateway.fine_tuning import following, order
from tests.gateway.conftest import write_adapter

if TYPE_CHECKING:
    from tests.gateway.conftest import Running

ROW = b'{"prompt": "Where is it?", "completion": "On its way."}\n'


@pytest.fixture
def client(running: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{running.server.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


@pytest.fixture(autouse=True)
def no_job_waits(running: Running) -> Iterator[None]:
    """Other tests have filed some on this gateway, too."""
    cancel_all(running)
    yield
    cancel_all(running)


def cancel_all(running: Running) -> None:
    for job in running.gateway.home.jobs.list():
        if not job.finished:
            running.gateway.home.jobs.cancel(job.key)


@pytest.fixture
def file_id(client: openai.OpenAI) -> str:
    return client.files.create(file=("rows.jsonl", ROW), purpose="fine-tune").id


class Worker:
    """Claims the oldest job through a `Jobs` of its own, as another process would."""

    def __init__(self, running: Running) -> None:
        self.jobs = Jobs(running.registry.store)
        self.job: Job | None = None

    def claim(self) -> Worker:
        self.job = self.jobs.claim("host-1", 30)
        return self

    def says(self, stage: str, step: int = 0, steps: int = 1, **more: Any) -> None:
        assert self.job is not None
        self.jobs.progress(self.job, {"stage": stage, "step": step, "steps": steps, "note": "", **more})

    def ends(self, how: str, *told: Any) -> None:
        assert self.job is not None
        getattr(self.jobs, how)(self.job, *told)


RESULT = {"promoted": True, "version": 3, "trained_tokens": 900, "steps": 20, "metrics": {"test/nll": 1.25}}


def create(running: Running, file_id: str, **fields: Any) -> httpx.Response:
    body = {"model": running.base_name, "training_file": file_id, **fields}
    return running.http.post("/v1/fine_tuning/jobs", json=body)


def test_a_job_from_its_filing_to_its_model(running: Running, client: openai.OpenAI, file_id: str) -> None:
    job = client.fine_tuning.jobs.create(
        model=running.base_name,
        training_file=file_id,
        validation_file=file_id,
        suffix="tickets",
        seed=7,
        metadata={"team": "shop"},
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": "auto"}}},
    )
    assert (job.object, job.status, job.model, job.seed) == ("fine_tuning.job", "queued", running.base_name, 7)
    assert (job.fine_tuned_model, job.error, job.finished_at, job.trained_tokens) == (None, None, None, None)
    assert (job.training_file, job.validation_file, job.result_files) == (file_id, file_id, [])
    assert (job.hyperparameters.n_epochs, job.hyperparameters.batch_size) == (2, "auto")
    assert job.method is not None
    assert job.method.supervised is not None
    assert (job.organization_id, job.metadata) == ("default", {"team": "shop"})

    def seen() -> Any:
        return client.fine_tuning.jobs.retrieve(job.id)

    worker = Worker(running).claim()
    assert worker.job is not None
    asked = read_tune_job(worker.job.spec)
    assert (asked.adapter, asked.parent, asked.epochs, asked.batch_size) == ("tickets", None, 2, None)
    assert seen().status == "running"
    worker.says("reading data", 1)
    assert (seen().status, seen().estimated_finish) == ("validating_files", None)
    worker.says("training", 10, 20, train_loss=2.0, tokens=450)
    worker.says("training", 10, 20, train_loss=2.0, tokens=450)
    assert seen().status == "running"
    assert job.created_at <= seen().estimated_finish <= time.time() + 60
    assert client.fine_tuning.jobs.checkpoints.list(job.id).data == []
    worker.ends("succeed", RESULT)
    done = seen()
    assert (done.status, done.fine_tuned_model, done.trained_tokens) == ("succeeded", "tickets@v3", 900)
    assert done.finished_at >= done.created_at
    (kept,) = client.fine_tuning.jobs.checkpoints.list(job.id).data
    assert (kept.fine_tuned_model_checkpoint, kept.step_number, kept.fine_tuning_job_id) == ("tickets@v3", 20, job.id)
    assert kept.metrics.full_valid_loss == 1.25
    events = client.fine_tuning.jobs.list_events(job.id).data
    assert [event.message for event in reversed(events)] == [
        f"created: tickets is to be trained from {running.base_name}",
        "a worker has begun",
        "reading data 1/1",
        "training 10/20: training loss 2.0000",
        "succeeded: tickets@v3",
    ]
    assert {event.object for event in events} == {"fine_tuning.job.event"}
    assert (events[1].type, events[1].data) == ("metrics", {"step": 10, "steps": 20, "train_loss": 2.0, "tokens": 450})
    assert [event.id.rpartition("-")[2] for event in events] == ["6", "4", "3", "2", "1"], "numbers in the log"


def test_events_come_in_pages_with_ids_that_stay(running: Running, client: openai.OpenAI, file_id: str) -> None:
    job = client.fine_tuning.jobs.create(model="alpha", training_file=file_id)
    worker = Worker(running).claim()
    for step in range(150):
        worker.says("training", step // 2, 75, train_loss=1.0)
    every = [event.id for event in client.fine_tuning.jobs.list_events(job.id, limit=10)]
    assert len(every) == 77, "what is said twice is told once"
    worker.says("evaluating")
    assert [event.id for event in client.fine_tuning.jobs.list_events(job.id, limit=100).data][1:] == every
    older = client.fine_tuning.jobs.list_events(job.id, after=every[4], limit=3).data
    assert [event.id for event in older] == every[5:8]
    for after in ("nonsense", every[0].replace(job.id[6:], "0" * 26), f"ftevent-{job.id[6:]}-0"):
        with pytest.raises(openai.BadRequestError):
            client.fine_tuning.jobs.list_events(job.id, after=after)


def test_events_as_they_happen(
    running: Running, client: openai.OpenAI, file_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "POLL_S", 0.05)
    monkeypatch.setattr(following, "HEARTBEAT_S", 0.2)
    job = client.fine_tuning.jobs.create(model="alpha", training_file=file_id)
    lines: list[str] = []

    def listen() -> None:
        with running.http.stream("GET", f"/v1/fine_tuning/jobs/{job.id}/events?stream=true") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines.extend(line for line in answer.iter_lines() if line)

    listening = threading.Thread(target=listen)
    listening.start()
    worker = Worker(running).claim()
    worker.says("training", 1, 2, train_loss=1.0)
    time.sleep(0.6)
    worker.ends("fail", "no rows", {"code": "invalid_training_file", "param": "training_file"})
    listening.join(10)
    assert not listening.is_alive()
    assert ": keep-alive" in lines
    told = [line for line in lines if line.startswith("data: ")]
    assert told[-1] == "data: [DONE]"
    assert [json.loads(line.removeprefix("data: "))["message"] for line in told[:-1]] == [
        "created: ft-" + job.id[-8:] + " is to be trained from alpha",
        "a worker has begun",
        "training 1/2: training loss 1.0000",
        "failed: no rows",
    ]
    after = f"ftevent-{job.id[6:]}-3"
    rest = running.http.get(f"/v1/fine_tuning/jobs/{job.id}/events?stream=true&after={after}").text
    assert rest.count("data: ") == 2, "who comes back asks for what is newer"
    failed = client.fine_tuning.jobs.retrieve(job.id)
    assert failed.status == "failed"
    assert failed.error is not None
    assert (failed.error.code, failed.error.message, failed.error.param) == (
        "invalid_training_file",
        "no rows",
        "training_file",
    )
    until(lambda: running.gateway.followers.inside == 0)


def test_who_hangs_up_on_a_stream_frees_its_place(running: Running, client: openai.OpenAI, file_id: str) -> None:
    job = client.fine_tuning.jobs.create(model="alpha", training_file=file_id)
    with running.http.stream("GET", f"/v1/fine_tuning/jobs/{job.id}/events?stream=true") as answer:
        next(answer.iter_lines())
        assert running.gateway.followers.inside == 1
    until(lambda: running.gateway.followers.inside == 0)


def test_a_gateway_that_stops_does_not_wait_for_whoever_listens(start: Callable[..., Running]) -> None:
    running = start()
    form: dict[str, Any] = {"data": {"purpose": "fine-tune"}, "files": {"file": ("x", ROW)}}
    file_id = running.http.post("/v1/files", **form).json()["id"]
    job = create(running, file_id).json()
    with running.http.stream("GET", f"/v1/fine_tuning/jobs/{job['id']}/events?stream=true") as answer:
        lines = answer.iter_lines()
        next(lines)
        since = time.monotonic()
        running.server.stop()
        assert "[DONE]" not in "".join(lines), "the job goes on"
        assert time.monotonic() - since < 4


def test_a_tenant_has_so_many_jobs_at_once(running: Running, file_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "MAX_UNFINISHED", 3)
    filed = [create(running, file_id) for _ in range(4)]
    assert [answer.status_code for answer in filed] == [200, 200, 200, 429]
    assert filed[3].headers["retry-after"] == "60"
    running.http.post(f"/v1/fine_tuning/jobs/{filed[0].json()['id']}/cancel")
    assert create(running, file_id).status_code == 200


def test_a_job_starts_warm_from_the_version_that_its_model_means_now(
    running: Running, file_id: str, tmp_path: Path
) -> None:
    for model in ("alpha", "alpha@prod", "alpha@v1"):
        job = create(running, file_id, model=model).json()
        asked = read_tune_job(running.gateway.home.jobs.get(job["id"]).spec)
        assert asked.parent == f"alpha@{running.registry.resolve('alpha').digest}"
        assert (job["model"], job["adapter"]) == (model, f"ft-{job['id'][-8:]}")
    identity = msgspec.structs.replace(running.base.profile.identity, id="other", weights_sha256="0" * 64)
    profile = msgspec.structs.replace(running.base.profile, identity=identity)
    directory = write_adapter(tmp_path / "foreign", running.base, 9)
    running.registry.publish("foreign", directory, profile=profile, aliases={"prod": UNSET})
    foreign = create(running, file_id, model="foreign")
    assert (foreign.status_code, foreign.json()["error"]["param"]) == (400, "model"), foreign.text
    assert create(running, file_id, model="nothing").status_code == 404
    assert create(running, file_id, model="alpha@v9").status_code == 404


BAD = {
    "no such file": ({"training_file": "file-" + "0" * 26}, "training_file", "file_not_found"),
    "a path for a file": ({"training_file": "../../etc/passwd"}, "training_file", "file_not_found"),
    "no such validation file": ({"validation_file": "file-x"}, "validation_file", "file_not_found"),
    "an integration": ({"integrations": [{"type": "wandb"}]}, "integrations", "unsupported_parameter"),
    "preferences": ({"method": {"type": "dpo"}}, "method.dpo", "unsupported_parameter"),
    "rewards": ({"method": {"type": "reinforcement"}}, "method.reinforcement", "unsupported_parameter"),
    "another method": ({"method": {"type": "magic"}}, "method.type", "invalid_value"),
    "a name in capitals": ({"suffix": "Tickets"}, "suffix", None),
    "a path for a name": ({"suffix": "../up"}, "suffix", None),
    "no name": ({"suffix": ""}, "suffix", "invalid_value"),
    "a long name": ({"suffix": "x" * 65}, "suffix", "invalid_value"),
    "no epochs": ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs", "invalid_value"),
    "a million epochs": ({"hyperparameters": {"n_epochs": 10**6}}, "hyperparameters.n_epochs", "invalid_value"),
    "half a row": ({"hyperparameters": {"batch_size": 0.5}}, "hyperparameters.batch_size", "invalid_value"),
    "backwards": (
        {"hyperparameters": {"learning_rate_multiplier": -1}},
        "hyperparameters.learning_rate_multiplier",
        "invalid_value",
    ),
    "many": (
        {"method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": "many"}}}},
        "method.supervised.hyperparameters.n_epochs",
        "invalid_value",
    ),
    "a seed below zero": ({"seed": -1}, "seed", "invalid_value"),
    "too much metadata": ({"metadata": {str(n): "x" for n in range(17)}}, None, "invalid_value"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_done_is_refused_by_name(running: Running, file_id: str, case: str) -> None:
    fields, param, code = BAD[case]
    answer = create(running, file_id, **fields)
    found = answer.json()["error"]
    assert answer.status_code == 400, answer.text
    assert found["param"] == param or param is None
    assert found["code"] == code or code is None
    assert running.gateway.home.jobs.claim("nobody", 1) is None, "nothing was filed"


def test_the_bases_name_is_no_adapters(running: Running, file_id: str) -> None:
    assert create(running, file_id, suffix=running.base_name).json()["error"]["param"] == "suffix"


def test_what_asks_for_nothing_special_is_let_through(running: Running, file_id: str) -> None:
    fields = {"integrations": [], "validation_file": None, "suffix": None, "seed": None, "metadata": None, "new": 1}
    answer = create(running, file_id, hyperparameters={"n_epochs": 4, "learning_rate_multiplier": 1}, **fields)
    assert (answer.status_code, answer.json()["hyperparameters"]["n_epochs"]) == (200, 4)


def test_lists_are_newest_first_in_pages_and_by_metadata(running: Running, client: openai.OpenAI, file_id: str) -> None:
    ids = [
        client.fine_tuning.jobs.create(
            model=running.base_name, training_file=file_id, metadata={"run": "listed", "n": str(number)}
        ).id
        for number in range(5)
    ]
    Jobs(running.registry.store).submit("drift", {"kind": "drift-retrain", "adapter": "alpha"})
    found = [job.id for job in client.fine_tuning.jobs.list(limit=2, metadata={"run": "listed"})]
    assert found == ids[::-1]
    assert [job.id for job in client.fine_tuning.jobs.list(metadata={"run": "listed", "n": "3"})] == [ids[3]]
    assert client.fine_tuning.jobs.list(metadata={"run": "other"}).data == []
    assert running.http.get("/v1/fine_tuning/jobs/drift").status_code == 404
    for query in ("limit=0", "limit=101", "after=nothing"):
        assert running.http.get(f"/v1/fine_tuning/jobs?{query}").status_code == 400


def test_a_cancelled_job_stays_cancelled_and_is_on_record(
    running: Running, client: openai.OpenAI, file_id: str
) -> None:
    job = client.fine_tuning.jobs.create(model="alpha", training_file=file_id, suffix="stopped")
    for _ in range(2):
        assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    records = running.http.get("/api/audit", params={"limit": 2}).json()["records"]
    assert [record["action"] for record in records] == ["job.cancel", "job.create"]
    assert records[0]["what"] == {"job": job.id, "adapter": "stopped"}
    done = client.fine_tuning.jobs.create(model="alpha", training_file=file_id)
    Worker(running).claim().ends("succeed", {})
    with pytest.raises(openai.BadRequestError, match="already succeeded"):
        client.fine_tuning.jobs.cancel(done.id)
    told = client.fine_tuning.jobs.retrieve(done.id)
    assert (told.fine_tuned_model, told.trained_tokens) == (None, None), "a result may lack anything"


def test_jobs_are_neither_paused_nor_resumed(client: openai.OpenAI, file_id: str) -> None:
    job = client.fine_tuning.jobs.create(model="alpha", training_file=file_id)
    for refused in (client.fine_tuning.jobs.pause, client.fine_tuning.jobs.resume):
        with pytest.raises(openai.BadRequestError, match=r"cannot be (paused|resumed)"):
            refused(job.id)


def test_the_same_key_gives_the_same_job(running: Running, file_id: str) -> None:
    def ask(key: str, **fields: Any) -> httpx.Response:
        body = {"model": "alpha", "training_file": file_id, **fields}
        return running.http.post("/v1/fine_tuning/jobs", json=body, headers={"idempotency-key": key})

    first = ask("a key")
    running.publish("alpha-later", 77)
    assert ask("a key").json() == first.json()
    assert ask("another").json()["id"] != first.json()["id"]
    other = ask("a key", seed=3)
    assert (other.status_code, other.json()["error"]["code"]) == (400, "idempotency_key_in_use")
    assert ask("x" * 256).status_code == 400


def test_ids_of_others_and_of_nothing_are_not_there(start: Callable[..., Running]) -> None:
    running = start()
    keys = KeyLog.of(running.registry)
    train = frozenset({"train"})
    secrets = {
        "all": keys.create(Grants(name="all", tenant="default", scopes=train))[1],
        "limited": keys.create(Grants(name="limited", tenant="default", scopes=train, adapters=("team-*",)))[1],
        "theirs": keys.create(Grants(name="theirs", tenant="other", scopes=train))[1],
    }
    until(lambda: httpx.get(f"{running.server.url}/v1/files").status_code == 401)
    http = {
        name: httpx.Client(base_url=running.server.url, headers={"authorization": f"Bearer {secret}"})
        for name, secret in secrets.items()
    }
    form: dict[str, Any] = {"data": {"purpose": "fine-tune"}, "files": {"file": ("x", ROW)}}
    file_id = http["all"].post("/v1/files", **form).json()["id"]
    body = {"model": running.base_name, "training_file": file_id}
    id = http["all"].post("/v1/fine_tuning/jobs", json={**body, "suffix": "poet"}).json()["id"]
    for who in ("limited", "theirs"):
        assert http[who].get("/v1/fine_tuning/jobs").json()["data"] == []
        told = []
        for each in (id, "ftjob-" + "0" * 26, "drift"):
            for method, path in (("GET", ""), ("GET", "/events"), ("GET", "/checkpoints"), ("POST", "/cancel")):
                answer = http[who].request(method, f"/v1/fine_tuning/jobs/{each}{path}")
                assert answer.status_code == 404
                told.append(answer.text.replace(each, "ID"))
        assert told[:4] == told[4:8] == told[8:]
    running.publish("team-a", 5)
    for fields in ({"suffix": "team-b"}, {"model": "team-a"}, {"model": "team-a", "suffix": "poet"}):
        assert http["limited"].post("/v1/fine_tuning/jobs", json={**body, **fields}).status_code == 403
    allowed = {**body, "model": "team-a", "suffix": "team-b"}
    assert http["limited"].post("/v1/fine_tuning/jobs", json=allowed).status_code == 200
    assert len(http["all"].get("/v1/fine_tuning/jobs").json()["data"]) == 2
    for each in http.values():
        each.close()


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)
