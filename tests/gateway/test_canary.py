"""A split alias: who gets which version, that it stays so, what tells it, and what compares the versions."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from registry.names import parse_ref
from serving.gateway.choosing import Catalog
from tests.gateway.test_follower import until

if TYPE_CHECKING:
    from tests.gateway.conftest import Running


@pytest.fixture
def split(fresh: Running) -> Running:
    """`bot@prod` is v1 at 75 % and v2 at 25 %."""
    for seed in (1, 2):
        fresh.publish("bot", seed, prod=seed == 1)
    fresh.registry.alias("bot", "prod", {"v1": 75, "v2": 25})
    return fresh


def version_for(running: Running, session: str | None = None, **fields: Any) -> str:
    body = {"model": "bot", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1, **fields}
    headers = {} if session is None else {"x-session-id": session}
    answer = running.http.post("/v1/chat/completions", json=body, headers=headers)
    return answer.headers["x-adapter-version"]


def test_headers_say_which_version_and_how_large_its_share_is(split: Running) -> None:
    seen = set()
    for number in range(12):
        answer = split.chat("bot", max_tokens=1, user=f"user {number}")
        headers = answer.headers
        assert headers["x-adapter-alias"] == "prod"
        assert headers["x-adapter-digest"] == answer.json()["system_fingerprint"]
        seen.add((headers["x-adapter-version"], headers["x-adapter-share"]))
    assert seen == {("1", "0.75"), ("2", "0.25")}
    by_number = split.chat("bot@v2", max_tokens=1).headers
    assert by_number["x-adapter-version"] == "2"
    assert "x-adapter-share" not in by_number
    assert "x-adapter-alias" not in by_number


def test_a_session_keeps_its_version_else_its_user_does(split: Running) -> None:
    for name in ("ada", "bob", "zoë ☃", "'; drop table", "x" * 200):
        by_user = {version_for(split, user=name) for _ in range(3)}
        assert len(by_user) == 1, "sticky by user"
        assert {version_for(split, safety_identifier=name) for _ in range(3)} == by_user
    visits = {f"visit-{number}": version_for(split, f"visit-{number}", user="ada") for number in range(16)}
    assert set(visits.values()) == {"1", "2"}, "the session comes before the user"
    assert visits == {visit: version_for(split, visit, user="bob", stream=True) for visit in visits}


def test_who_names_neither_gets_any(split: Running) -> None:
    assert {version_for(split) for _ in range(32)} == {"1", "2"}


def test_every_gateway_agrees(split: Running) -> None:
    here = split.gateway.home.catalog
    there = Catalog(split.registry, here.known, split.base.profile, rng=random.Random(7))
    drawn = [[catalog.draw("bot", f"user-{n}").digest for n in range(300)] for catalog in (here, there)]
    assert drawn[0] == drawn[1]
    anew = [[catalog.draw("bot", None).digest for _ in range(64)] for catalog in (here, there)]
    assert anew[0] != anew[1]


def test_raising_a_canary_keeps_who_is_in_it_and_a_rollback_restores_all(split: Running) -> None:
    catalog, users = split.gateway.home.catalog, [f"user-{number}" for number in range(1000)]

    def in_canary() -> set[str]:
        return {user for user in users if (version := catalog.draw("bot", user).version) and version.number == 2}

    split.registry.alias("bot", "prod", {"v2": 5, "v1": 95})
    five = in_canary()
    split.registry.alias("bot", "prod", {"v2": 10, "v1": 90})
    ten = in_canary()
    assert five < ten
    assert 25 <= len(five) <= 80 <= len(ten) <= 130
    split.registry.rollback("bot")
    assert in_canary() == five
    split.registry.alias("bot", "prod", "v1")
    assert in_canary() == set()


def test_a_canary_is_begun_and_ended_over_http(split: Running) -> None:
    path = "/api/adapters/bot/aliases/prod"
    assert split.http.post(path, json={"to": {"v1": 90, "v2": 10}, "expect": "v1"}).status_code == 409
    moved = split.http.post(path, json={"to": {"v1": 90, "v2": 10}, "expect": {"v1": 75, "v2": 25}})
    assert moved.status_code == 200
    assert sorted(split.registry.state("bot").standing("prod").values()) == [0.1, 0.9]
    for weights in ({}, {"v1": 0, "v2": 1}, {"v1": -1}, {"v9": 1}, {"v1": "much"}):
        assert split.http.post(path, json={"to": weights}).status_code in (400, 404)
    back = split.http.post(f"{path}/rollback", json={"expect": {"v1": 9, "v2": 1}})
    assert (back.status_code, back.json()["version"]) == (200, 1)
    assert sorted(split.registry.state("bot").standing("prod").values()) == [0.25, 0.75]


def test_a_mix_is_drawn_alike(split: Running) -> None:
    split.publish("other", 3)
    parts = [{"model": "bot", "weight": 0.5}, {"model": "other", "weight": 0.5}]
    mixes = {
        user: {split.chat(split.base_name, adapters=parts, user=user).headers["x-adapter-mix"] for _ in range(2)}
        for user in ("a", "b", "c", "d", "e", "f", "g", "h")
    }
    assert {len(each) for each in mixes.values()} == {1}
    assert len(set.union(*mixes.values())) == 2


def test_a_canary_is_loaded_before_its_first_request(fresh: Running) -> None:
    fresh.publish("bot", 1)
    fresh.chat("bot", max_tokens=1)
    canary = fresh.publish("bot", 2, prod=False)
    fresh.registry.alias("bot", "prod", {"v1": 99, "v2": 1})
    until(lambda: fresh.gateway.residency.is_resident(canary.digest))


def test_a_quarantined_canary_is_refused_to_those_who_drew_it(split: Running) -> None:
    split.registry.quarantine("bot", "v2", "rude")
    state, alias = split.registry.state("bot"), parse_ref("bot").selector
    answers = {user: split.chat("bot", max_tokens=1, user=user).status_code for user in map(str, range(12))}
    assert set(answers.values()) == {200, 403}
    assert state.servable(alias).number == 1
    split.registry.rollback("bot")
    assert {split.chat("bot", max_tokens=1, user=user).status_code for user in answers} == {200}


def test_metrics_compare_the_versions(split: Running) -> None:
    split.chat("bot@v1", max_tokens=1)
    ids = [split.chat("bot", max_tokens=2, user=f"user {number}").json()["id"] for number in range(12)]
    for request_id in ids:
        verdict = {"request_id": request_id, "rating": -1, "correction": "no"}
        assert split.http.post("/v1/feedback", json=verdict).status_code == 200
    samples = [
        sample
        for family in text_string_to_metric_families(split.http.get("/metrics").text)
        for sample in family.samples
        if sample.name.startswith("lorimer_arm_")
    ]
    labelled = [[sample.labels[name] for name in ("tenant", "adapter", "alias")] for sample in samples]
    assert all(each == ["default", "bot", "prod"] for each in labelled)

    def total(name: str, **labels: str) -> float:
        found = (sample for sample in samples if sample.name == f"lorimer_arm_{name}")
        return sum(sample.value for sample in found if sample.labels.items() >= labels.items())

    assert total("requests_total") == 12, "what was asked for by number took no part"
    assert 0 < total("requests_total", version="v2", reason="length") < 12
    assert total("generation_tokens_total") == 24
    assert total("request_seconds_count") == total("time_to_first_token_seconds_count") == 12
    assert total("feedback_total", verdict="down") == total("feedback_total", verdict="corrected") == 12
    assert total("feedback_total", version="v2") == 2 * total("requests_total", version="v2")
