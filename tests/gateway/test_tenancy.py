"""Two tenants on one gateway, with adapters of the same name: neither ever meets anything of the other."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from msgspec import UNSET

from registry.adapters import Registry
from registry.captures import read_captures
from registry.jobs import Jobs
from registry.keys import SCOPES, Grants, KeyLog
from tests.gateway.test_quarantine import overflowing

if TYPE_CHECKING:
    from pathlib import Path

    from serving.base import Base
    from tests.gateway.conftest import Publish, Running

LONG = "What is said in this sentence is long enough that a prefix of it is worth keeping, said again and again. " * 2


@dataclass
class Guest:
    """A tenant with a key of its own, and what it may do with it."""

    name: str
    registry: Registry
    publish: Publish
    http: httpx.Client

    def chat(self, model: str, content: str = "hello", **fields: Any) -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": 8, **fields}
        return self.http.post("/v1/chat/completions", json={"temperature": 0, **body})


Make = Callable[..., Guest]


@pytest.fixture(scope="module")
def shared(tiny_base: Base, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Guest, Guest]]:
    """A gateway of tenant `default`, which serves `acme` and `globex`; each has a `support` of its own."""
    from tests.gateway.conftest import publisher, run

    root = tmp_path_factory.mktemp("shared")
    hashes = hashlib.sha256(b"operator").hexdigest()
    for running in run(tiny_base, root, api_key_hashes=hashes):
        guests: list[Guest] = []
        for seed, name in enumerate(("acme", "globex"), start=1):
            registry = running.registry.of_tenant(name)
            publish = publisher(registry, tiny_base, root / name)
            publish("support", seed, policy={"capture": True})
            _, secret = KeyLog.of(running.registry).create(Grants(name="all", tenant=name, scopes=SCOPES))
            guests.append(Guest(name, registry, publish, client(running, secret)))
        acme, globex = guests
        while globex.http.get("/version").status_code != 200:
            time.sleep(0.02)
        yield running, acme, globex
        for guest in guests:
            guest.http.close()


def client(running: Running, secret: str) -> httpx.Client:
    return httpx.Client(base_url=running.server.url, headers={"authorization": f"Bearer {secret}"}, timeout=60)


def wait(holds: Callable[[], Any]) -> None:
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_one_name_means_each_tenants_own_adapter(shared: tuple[Running, Guest, Guest]) -> None:
    _, acme, globex = shared
    answers = {guest.name: guest.chat("support") for guest in (acme, globex)}
    for guest in (acme, globex):
        assert answers[guest.name].headers["x-adapter-digest"] == guest.registry.resolve("support").digest
        assert guest.chat(f"{guest.name}/support").json()["choices"] == answers[guest.name].json()["choices"]
    assert answers["acme"].json()["choices"] != answers["globex"].json()["choices"]


@pytest.mark.parametrize(
    "other", ["acme/support", "acme/nothing", "support@{digest}", "acme/support@{digest}", "secret"]
)
def test_what_another_tenant_has_looks_as_if_it_did_not_exist(shared: tuple[Running, Guest, Guest], other: str) -> None:
    _, acme, globex = shared
    acme.publish("secret", 7)
    model = other.format(digest=acme.registry.resolve("support").digest)
    seen = [globex.chat(model), globex.http.get(f"/v1/models/{model}")]
    seen.append(globex.http.post("/v1/completions", json={"model": model, "prompt": "x"}))
    for answer in seen:
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
        assert answer.json()["error"]["message"] == f"the model {model!r} does not exist"


def test_lists_name_only_ones_own(shared: tuple[Running, Guest, Guest]) -> None:
    running, acme, globex = shared
    acme.publish("only-acme", 5)
    models = {guest.name: {card["id"] for card in guest.http.get("/v1/models").json()["data"]} for guest in shared[1:]}
    assert "only-acme" in models["acme"]
    assert models["globex"] == {running.base_name, "support"}
    adapters = globex.http.get("/api/adapters").json()["adapters"]
    assert [each["adapter"] for each in adapters] == ["support"]
    for path in ("/api/adapters/only-acme", "/api/adapters/only-acme/log"):
        assert (acme.http.get(path).status_code, globex.http.get(path).status_code) == (200, 404)
    Jobs(acme.registry.store, "acme").submit("mine", {"kind": "test"})
    assert [len(guest.http.get("/api/jobs").json()["jobs"]) for guest in (acme, globex)] == [1, 0]
    assert {each["adapter"] for each in globex.http.get("/api/drift").json()["adapters"]} == {"support"}


def test_an_alias_moves_only_for_its_own_tenant_and_names_who_moved_it(shared: tuple[Running, Guest, Guest]) -> None:
    _, acme, globex = shared
    first = {guest.name: guest.publish("moved", 11) for guest in (acme, globex)}
    second = acme.publish("moved", 12, prod=False)
    event = acme.http.post("/api/adapters/moved/aliases/prod", json={"to": "v2"}).json()
    assert event["actor"].startswith("key:")
    assert acme.registry.resolve("moved").digest == second.digest
    assert globex.registry.resolve("moved").digest == first["globex"].digest
    assert globex.http.post("/api/adapters/only-there/aliases/prod", json={"to": "v1"}).status_code == 404


def test_the_same_bytes_are_loaded_once_and_computed_prefixes_are_not_shared(
    shared: tuple[Running, Guest, Guest],
) -> None:
    running, acme, globex = shared
    digests = {guest.publish("twin", 21).digest for guest in (acme, globex)}
    assert len(digests) == 1
    misses = running.gateway.residency.stats().misses

    def reused(guest: Guest) -> int:
        before = running.gateway.engine.stats().prefix_tokens_reused
        assert guest.chat("twin", LONG).status_code == 200
        return running.gateway.engine.stats().prefix_tokens_reused - before

    assert (reused(acme), reused(acme) > 0) == (0, True)
    assert reused(globex) == 0, "how long an answer takes must not tell what another tenant asked"
    assert reused(globex) > 0
    assert running.gateway.residency.stats().misses == misses + 1


def test_texts_and_observations_land_with_their_own_tenant(shared: tuple[Running, Guest, Guest]) -> None:
    running, acme, globex = shared
    said = {guest.name: f"said by {guest.name} alone" for guest in (acme, globex)}
    for guest in (acme, globex):
        guest.chat("support", said[guest.name])
    for guest in (acme, globex):
        running.gateway.tenants.of(guest.name).captures.flush()
        running.gateway.tenants.of(guest.name).sensor.flush()
        captured = read_captures(guest.registry.store, guest.name, "support")
        texts = {each.messages[0]["content"] for each in captured}
        assert said[guest.name] in texts
        assert not texts & ({*said.values()} - {said[guest.name]})
        assert list(guest.registry.store.list(f"t/{guest.name}/obs/"))
    assert not list(running.registry.store.list("t/default/captures/"))


def test_nobody_gives_feedback_on_an_answer_to_somebody_else(shared: tuple[Running, Guest, Guest]) -> None:
    _, acme, globex = shared
    answer = acme.chat("support", "for acme")
    for request_id in (answer.json()["id"], answer.headers["x-request-id"]):
        feedback = {"request_id": request_id, "rating": -1}
        assert globex.http.post("/v1/feedback", json=feedback).status_code == 404
        assert acme.http.post("/v1/feedback", json=feedback).status_code == 200


def test_quarantine_is_shown_and_lifted_by_the_owner_alone(
    shared: tuple[Running, Guest, Guest], tmp_path: Path
) -> None:
    running, acme, globex = shared
    directory = overflowing(tmp_path / "bad", running, 31)
    bad = acme.registry.publish("bad", directory, profile=running.base.profile, aliases={"prod": UNSET})
    assert acme.chat("bad").status_code == 500
    assert [case["name"] for case in acme.http.get("/api/quarantine").json()["quarantined"]] == ["bad@v1"]
    assert globex.http.get("/api/quarantine").json()["quarantined"] == []
    globex.registry.publish("same-bytes", directory, profile=running.base.profile, aliases={"prod": UNSET})
    refused = globex.chat("same-bytes")
    assert refused.json()["error"]["code"] == "adapter_quarantined"
    assert "same-bytes@v1" in refused.text
    assert "bad@" not in refused.text, "what acme calls it is no business of globex"
    loaded = globex.http.post("/v1/load_lora_adapter", json={"lora_name": "same-bytes", "lora_path": "same-bytes"})
    assert (loaded.status_code, "bad@" in loaded.text, "same-bytes@v1" in loaded.text) == (503, False, True)
    grants = Grants(name="not-bad", tenant="acme", scopes=SCOPES, adapters=("support",))
    with client(running, KeyLog.of(running.registry).create(grants)[1]) as http:
        wait(lambda: http.get("/version").status_code == 200)
        assert http.get("/api/quarantine").json()["quarantined"] == []
        assert http.post(f"/api/quarantine/{bad.digest}/release").status_code == 404
    assert [case["name"] for case in globex.http.get("/api/quarantine").json()["quarantined"]] == ["same-bytes@v1"]
    release = f"/api/quarantine/{bad.digest}/release"
    assert acme.http.post(release).status_code == 200
    assert globex.http.post(release).status_code == 404


def test_a_key_limited_to_models_sees_and_uses_only_those(shared: tuple[Running, Guest, Guest]) -> None:
    running, acme, _ = shared
    acme.publish("limited-de", 41)
    grants = Grants(name="limited", tenant="acme", scopes=SCOPES, adapters=("limited-*",))
    _, secret = KeyLog.of(running.registry).create(grants)
    with client(running, secret) as http:
        wait(lambda: http.get("/version").status_code == 200)
        limited = Guest("acme", acme.registry, acme.publish, http)
        assert limited.chat("limited-de").status_code == 200
        mix = [{"model": "limited-de", "weight": 0.5}, {"model": "support", "weight": 0.5}]
        refused = [
            limited.chat("support"),
            limited.chat("no-such-adapter"),
            limited.chat(running.base_name),
            limited.chat(running.base_name, adapters=mix),
            http.get("/v1/models/support"),
            http.post("/v1/feedback", json={"request_id": acme.chat("support").json()["id"], "rating": 1}),
            http.get("/api/adapters/support"),
            http.get("/api/adapters/support/log"),
            http.get("/api/adapters/support/captures"),
            http.post("/v1/load_lora_adapter", json={"lora_name": "support", "lora_path": "support"}),
            http.post("/v1/embeddings", json={"model": "support", "input": "hello"}),
            http.post("/v1/responses", json={"model": "support", "input": "hello"}),
            http.post("/v1/tokenize", json={"model": "support", "prompt": "hello"}),
            http.post("/api/adapters/support/aliases/prod", json={"to": "v1"}),
            http.post("/api/adapters/support/aliases/prod/rollback", json={}),
            http.post("/api/captures/expire", json={"adapter": "support", "days": 0}),
            http.post("/v1/feedback", json={"request_id": "gone", "rating": 1, "model": "support"}),
            http.post("/v1/feedback", json={"request_id": "gone", "rating": 1, "model": "no-such-adapter"}),
        ]
        assert [answer.status_code for answer in refused] == [403] * len(refused)
        assert refused[0].json()["error"]["code"] == "model_not_allowed"
        assert [card["id"] for card in http.get("/v1/models").json()["data"]] == ["limited-de"]
        assert [each["adapter"] for each in http.get("/api/adapters").json()["adapters"]] == ["limited-de"]
        assert [each["adapter"] for each in http.get("/api/drift").json()["adapters"]] == ["limited-de"]
        jobs = Jobs(running.registry.store, "acme")
        for adapter in ("limited-de", "support"):
            jobs.submit(f"of-{adapter}", {"adapter": adapter})
        assert [job["key"] for job in http.get("/api/jobs").json()["jobs"]] == ["of-limited-de"]
