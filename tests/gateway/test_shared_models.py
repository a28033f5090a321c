"""Requests for adapters that another tenant owns: served when granted, unknown when not, and never kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry.adapters import Registry
from registry.captures import read_captures
from registry.neighbours import share
from tests.gateway.conftest import publisher
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
    fresh.gateway.captures.flush()
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
