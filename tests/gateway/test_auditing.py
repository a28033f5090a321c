"""What is changed over HTTP is on record before it is done, with who and under which request id; failures too."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from registry.errors import Unavailable
from registry.keys import SCOPES, Grants, KeyLog

if TYPE_CHECKING:
    from tests.gateway.conftest import Running


def records(running: Running, **query: Any) -> list[dict[str, Any]]:
    answer = running.http.get("/api/audit", params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["records"]
    return found


def test_a_moved_alias_is_on_record(running: Running) -> None:
    running.publish("audited", 61)
    running.publish("audited", 62, prod=False)
    path = "/api/adapters/audited/aliases/prod"
    body = {"to": "v2", "reason": "better"}
    assert running.http.post(path, json=body, headers={"x-request-id": "move-1"}).status_code == 200
    assert running.http.post(f"{path}/rollback", json={"reason": "worse"}).status_code == 200
    back, moved = records(running, limit=2)
    assert (moved["action"], moved["actor"], moved["request_id"]) == ("alias.move", "local", "move-1")
    assert moved["what"] == {"adapter": "audited", "alias": "prod", "to": "v2", "reason": "better"}
    assert (back["action"], back["error"]) == ("alias.rollback", "")
    assert running.gateway.audits.of("default").verify().state >= 2
    line = next(each for each in running.logged() if each.get("request_id") == "move-1")
    assert (line["action"], line["audit"]) == ("alias.move", moved["n"])


def test_what_failed_is_on_record_as_failed(running: Running) -> None:
    path = "/api/adapters/alpha/aliases/prod"
    assert running.http.post(path, json={"to": "v99"}).status_code == 404
    (failed,) = records(running, limit=1, action="alias.move")
    assert failed["what"]["to"] == "v99"
    assert failed["error"].startswith("not_found: ")
    assert running.http.post(path, json={"force": True}).status_code == 400
    assert records(running, limit=1)[0]["n"] == failed["n"], "what asks for nothing is no action"


def test_what_cannot_be_recorded_is_not_done(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    running.publish("unrecorded", 63)
    running.publish("unrecorded", 64, prod=False)

    def refuse(*_: object) -> int:
        raise Unavailable("the store does not answer")

    monkeypatch.setattr(running.gateway.audits.of("default"), "record", refuse)
    moved = running.http.post("/api/adapters/unrecorded/aliases/prod", json={"to": "v2"})
    assert moved.status_code == 503
    assert running.registry.resolve("unrecorded").number == 1


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 10**6}, {"limit": "many"}, {"since": "yesterday-ish"}])
def test_bad_questions_are_problems(running: Running, query: dict[str, Any]) -> None:
    answer = running.http.get("/api/audit", params=query)
    assert answer.status_code == 400
    assert answer.headers["content-type"].startswith("application/problem+json")


def test_each_tenant_has_a_log_of_its_own_and_it_takes_the_scope_admin(fresh_with_keys: Callable[..., Any]) -> None:
    acme, globex, lower = fresh_with_keys(("acme", SCOPES), ("globex", SCOPES), ("acme", frozenset({"promote"})))
    assert acme.post("/api/adapters/nobody/aliases/prod/rollback", json={}).status_code == 404
    (told,) = acme.get("/api/audit").json()["records"]
    assert (told["action"], told["what"]["adapter"]) == ("alias.rollback", "nobody")
    assert told["actor"].startswith("key:")
    assert told["error"].startswith("not_found")
    assert globex.get("/api/audit").json()["records"] == []
    assert lower.get("/api/audit").status_code == 403
    assert acme.get("/metrics").status_code == 403, "metrics concern all tenants"


@pytest.fixture
def fresh_with_keys(start: Callable[..., Running]) -> Iterator[Callable[..., Any]]:
    """Clients of one new gateway, each with a key of this tenant and with these scopes."""
    clients: list[httpx.Client] = []

    def begin(*grants: tuple[str, Any]) -> list[httpx.Client]:
        running = start(api_key_hashes=hashlib.sha256(b"operator").hexdigest())
        for number, (tenant, scopes) in enumerate(grants):
            _, secret = KeyLog.of(running.registry).create(Grants(name=f"k{number}", tenant=tenant, scopes=scopes))
            headers = {"authorization": f"Bearer {secret}"}
            clients.append(httpx.Client(base_url=running.server.url, headers=headers, timeout=60))
        while clients[-1].get("/version").status_code != 200:
            time.sleep(0.02)
        return clients

    yield begin
    for each in clients:
        each.close()
