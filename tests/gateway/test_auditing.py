"""What is changed over HTTP is on record before it is done, with who and under which request id; failures too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from registry.errors import Unavailable

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
