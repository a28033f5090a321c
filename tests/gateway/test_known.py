"""Versions by digest, whoever of several tenants has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from registry.adapters import Registry, Version
from registry.cache import AdapterCache
from registry.directory import DirectoryStore
from registry.errors import NotFound
from serving.gateway import known as module
from serving.gateway.known import Known
from tests.registry.folders import PROFILE, write_folder

Owned = dict[str, Version]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    opened = Registry(DirectoryStore(tmp_path / "store"), "acme")
    opened.init()
    opened.register_base(PROFILE)
    return opened


@pytest.fixture
def twins(registry: Registry, tmp_path: Path) -> Owned:
    """The same bytes, which acme calls `a` and globex calls `b`."""
    folder = write_folder(tmp_path / "made", seed=1)
    names = {"acme": "a", "globex": "b"}
    return {tenant: registry.of_tenant(tenant).publish(name, folder) for tenant, name in names.items()}


def test_bytes_that_several_tenants_have_are_fetched_by_digest_and_named_by_none_of_them(
    registry: Registry, twins: Owned, tmp_path: Path
) -> None:
    known = Known(AdapterCache(tmp_path / "cache", registry))
    digest = twins["acme"].digest
    with pytest.raises(NotFound):
        known.fetch(digest)
    known.remember(twins["acme"])
    assert known.name_of(digest) == "a@v1"
    known.remember(twins["globex"])
    assert known.name_of(digest) == digest[:19], "the name that one tenant gave is no business of the other"
    assert (known.find(digest, "acme"), known.find(digest, "globex")) == (twins["acme"], twins["globex"])
    assert known.find(digest, "initech") is None
    assert (known.fetch(digest) / "adapter_config.json").is_file()


def test_each_tenant_holds_what_it_chose_lately_or_pinned(registry: Registry, twins: Owned, tmp_path: Path) -> None:
    now = [0.0]
    known = Known(AdapterCache(tmp_path / "cache", registry), lambda: now[0])
    for version in twins.values():
        known.remember(version)
    assert known.wanted("acme", 60, ()) == [twins["acme"]]
    now[0] = 100
    assert known.wanted("acme", 60, ()) == []
    assert known.wanted("globex", 60, {twins["globex"].digest}) == [twins["globex"]]
    known.remember(twins["acme"])
    assert known.wanted("acme", 60, ()) == [twins["acme"]]


def test_what_was_chosen_longest_ago_is_forgotten_first(
    registry: Registry, twins: Owned, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(module, "MAX_REMEMBERED", 2)
    known = Known(AdapterCache(tmp_path / "cache", registry))
    other = registry.publish("c", write_folder(tmp_path / "other", seed=2))
    for version in (*twins.values(), other):
        known.remember(version)
    assert known.find(twins["acme"].digest, "acme") is None
    assert known.name_of(twins["globex"].digest) == "b@v1", "globex alone has it now"
    assert known.find(other.digest, "acme") == other
