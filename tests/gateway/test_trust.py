"""A gateway with trusted keys serves what a root vouches for, and nothing that a thief put into the bucket."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from registry.adapters import Registry
from registry.consent import set_rules
from registry.rules import AliasRule, Rules
from registry.signing import new_key
from registry.trust import Trust
from tests.gateway.conftest import publisher
from tests.registry.people import Credulous

if TYPE_CHECKING:
    from tests.gateway.conftest import Running


def test_only_what_is_vouched_for_is_served(start: Callable[..., Running], tmp_path: Path) -> None:
    root, worker = new_key(tmp_path / "root.key"), new_key(tmp_path / "worker.key")
    (tmp_path / "trusted").write_text(root.id)
    running = start(trusted_keys=str(tmp_path / "trusted"))
    store, roots = running.registry.store, frozenset({root.id})
    owner = Registry(store, trust=Trust(root, roots))
    keys = {"root": root.id, "worker": worker.id}
    rules = Rules(keys=keys, owners=("root",), publishers=("worker",), aliases={"prod": AliasRule(signers=("worker",))})
    owner.commit("help", set_rules(rules), create=True)
    publish = publisher(Registry(store, trust=Trust(worker, roots)), running.base, tmp_path / "ours")
    version = publish("help", 1)
    assert running.chat("help").headers["x-adapter-digest"] == version.digest

    thief = Registry(store, actor="thief", trust=Credulous())
    publisher(thief, running.base, tmp_path / "thief")("planted", 2)
    thief.alias("help", "canary", "v1")
    thief.alias("help", "prod", None)
    assert running.chat("help").headers["x-adapter-digest"] == version.digest
    assert running.chat("help@canary").status_code == 404
    refused = running.chat("planted")
    assert refused.status_code == 403
    assert "no rules signed by a trusted key" in refused.text
    listed = {card["id"] for card in running.http.get("/v1/models").json()["data"]}
    assert listed == {running.base_name, "help"}
    told = running.http.get("/api/adapters/help").json()["violations"]
    assert [each["actor"] for each in told] == ["thief", "thief"]

    moved = publish("help", 3)
    assert running.chat("help").headers["x-adapter-digest"] == moved.digest
    assert msgspec.json.decode(running.http.get("/api/adapters/help").content)["rules"]["owners"] == ["root"]
