"""Requests for adapters that another tenant owns: served when granted, unknown when not, and never kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from registry.adapters import Registry
from registry.captures import read_captures
from registry.errors import Unavailable
from registry.neighbours import share
from tests.gateway.conftest import publisher
from tests.gateway.test_follower import until
from tests.gateway.test_recorder import observed

if TYPE_CHECKING:
    from tests.gateway.conftest import Running


@pytest.fixture
def acme(fresh: Running, tmp_path: Path) -> Registry:
    """Another tenant, which has an adapter with the name of one of ours."""
    owner = Registry(fresh.registry.store, "acme", actor="acme")
    publisher(owner, fresh.base, tmp_path / "acme")("help", 7, policy={"capture": True})
    fresh.publish("help", 1)
    return owner


def test_a_shared_alias_is_served_while_it_is_granted(fresh: Running, acme: Registry, tmp_path: Path) -> None:
    assert fresh.chat("acme/help").status_code == 404
    acme.commit("help", share("default", "prod"))
    answer, own = fresh.chat("acme/help"), fresh.chat("help")
    assert answer.status_code == own.status_code == 200
    assert answer.headers["x-adapter-digest"] == acme.resolve("help").digest != own.headers["x-adapter-digest"]
    assert answer.json()["choices"] != own.json()["choices"]
    moved = publisher(acme, fresh.base, tmp_path / "acme")("help", 8)
    assert fresh.chat("acme/help").headers["x-adapter-digest"] == moved.digest
    assert fresh.chat("acme/help@v1").status_code == 404
    assert fresh.http.get("/v1/models/acme/help").json()["owned_by"] == "acme"
    acme.commit("help", share("default", "prod", revoke=True))
    assert fresh.chat("acme/help").status_code == 404


def test_what_is_shared_is_neither_observed_nor_captured(fresh: Running, acme: Registry) -> None:
    acme.commit("help", share("default", "*"))
    own = fresh.chat("help").json()["id"]
    shared = fresh.chat("acme/help@prod", "a secret of mine").json()["id"]
    assert set(observed(fresh)) == {own}
    fresh.gateway.home.captures.flush()
    store = fresh.registry.store
    assert not [each for name in ("help", "acme/help") for each in read_captures(store, "default", name)]
    assert read_captures(store, "acme", "help") == []
    assert fresh.http.post("/v1/feedback", json={"request_id": shared, "rating": 1}).status_code == 200


def test_metrics_tell_the_two_apart(fresh: Running, acme: Registry) -> None:
    acme.commit("help", share("default", "prod"))
    fresh.chat("help")
    fresh.chat("acme/help")
    metrics = fresh.http.get("/metrics").text
    assert 'adapter="acme/help"' in metrics
    assert 'adapter="help"' in metrics


def test_a_move_of_a_shared_alias_is_loaded_before_the_first_request(
    fresh: Running, acme: Registry, tmp_path: Path
) -> None:
    acme.commit("help", share("default", "prod"))
    fresh.chat("acme/help", max_tokens=1)
    moved = publisher(acme, fresh.base, tmp_path / "acme")("help", 8)
    until(lambda: fresh.gateway.residency.is_resident(moved.digest))


def test_an_owner_who_lets_nobody_read_notices_stops_nothing(
    fresh: Running, acme: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme.commit("help", share("default", "prod"))
    store = type(fresh.registry.store)
    listed = store.list

    def forbid(self: Any, prefix: str, start_after: str = "") -> Iterator[str]:
        if prefix.startswith("t/acme/dirty/"):
            raise Unavailable("forbidden")
        return listed(self, prefix, start_after)

    monkeypatch.setattr(store, "list", forbid)
    fresh.chat("acme/help", max_tokens=1)
    fresh.chat("help", max_tokens=1)
    moved = fresh.publish("help", 2)
    until(lambda: fresh.gateway.residency.is_resident(moved.digest))
    told = [line for line in fresh.logged() if line["event"] == "notices of another tenant cannot be read"]
    assert [line["tenant"] for line in told] == ["acme"]
