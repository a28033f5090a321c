"""Somebody who holds the bucket's credentials but no key that counts: what he writes is void for every reader."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from registry import changes
from registry.adapters import Registry
from registry.canonical import sha256
from registry.checkpoints import CHECKPOINT_EVERY, Checkpoint
from registry.consent import review, set_rules
from registry.errors import Conflict, Corrupt, NotFound, Refused
from registry.gc import collect
from registry.lineage import trace
from registry.notices import announce
from registry.ops import Delete, Grant, MoveAlias, Publish, SetPolicy, SetRules
from registry.rules import AliasRule, Rules
from registry.sealed import seal
from registry.signing import new_key
from registry.trust import Trust
from registry.versions import AdapterState
from tests.registry.conftest import REAL_STORES, OpenAgain
from tests.registry.people import People, readers, rewrite, slot
from tests.registry.stores import MemoryStore, Wrapper

FORGERIES: dict[str, Callable[[Registry, Any], Any]] = {
    "alias": lambda r, _: r.alias("support", "prod", "v2"),
    "weights": lambda r, _: r.alias("support", "prod", {"v1": 0.5, "v2": 0.5}),
    "rollback": lambda r, _: r.commit("support", changes.move("prod", None)),
    "policy": lambda r, _: r.set_policy("support", {"capture": True}),
    "publish": lambda r, people: r.publish("support", people.folder(), aliases={"prod": msgspec.UNSET}),
    "delete": lambda r, _: r.delete("support", "v2"),
    "review": lambda r, _: r.commit("support", review("v2", "approve")),
    "quarantine": lambda r, _: r.quarantine("support", "v1", "spite"),
    "rules": lambda r, people: r.commit("support", set_rules(people.rules(owners=("eve",)))),
    "grant": lambda r, _: r.commit("support", lambda _: [Grant(tenant="thief", selector="*")]),
    "abort": lambda r, _: r.abort("support", "0" * 16),
}


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("forgery", list(FORGERIES))
def test_forged_events_are_void_for_every_reader(served: People, forgery: str, keyed: bool) -> None:
    before = served.as_().state("support")
    thief = served.thief(new_key(served.work / "thief.key") if keyed else None)
    with suppress(Conflict):  # a void version is not there to be returned
        FORGERIES[forgery](thief, served)
    spent = 1 if forgery == "publish" else 0
    for reader in readers(served):
        state = reader.state("support")
        (violation,) = state.violations
        assert (violation.n, violation.actor) == (4, "thief")
        assert "not for " + ("ed25519:" if keyed else "somebody without a key") in violation.rule
        undone = msgspec.structs.replace(state, violations=(), next_version=state.next_version - spent)
        assert undone == before
    served.as_("worker").publish("support", served.folder(), aliases={"prod": msgspec.UNSET})
    assert {reader.resolve("support").number for reader in readers(served)} == {3 + spent}


def test_a_signed_event_cannot_be_replayed(served: People, store: MemoryStore) -> None:
    served.as_("worker").alias("support", "prod", "v2")
    served.as_("worker").alias("support", "prod", "v1")
    last, replayed = store.get(slot(5)), msgspec.json.decode(store.get(slot(4)))
    store.put(slot(6), store.get(slot(4)))
    with pytest.raises(Corrupt, match="holds event 4"):
        served.as_().resolve("support")
    rewrite(store, slot(6), n=6)
    with pytest.raises(Corrupt, match="chain"):
        served.as_().resolve("support")
    rewrite(store, slot(6), n=6, prev=sha256(last), tx=replayed["tx"])
    for reader in readers(served):
        assert reader.resolve("support").number == 1
        assert "somebody without a key" in reader.state("support").violations[-1].rule


@pytest.mark.parametrize("field", ["ops", "actor", "time", "tx", "sig"])
def test_an_altered_newest_event_is_void(served: People, store: MemoryStore, field: str) -> None:
    served.as_("worker").alias("support", "prod", "v2")
    event = msgspec.json.decode(store.get(slot(4)))
    other = served.as_().show("support@v1").digest
    changed: dict[str, Any] = {
        "ops": [event["ops"][0] | {"to": {other: 1.0}, "reason": "x"}],
        "actor": "ada",
        "time": event["time"] - 86_400,
        "tx": "0" * 16,
        "sig": [event["sig"][0] | {"keyid": served.key("ada").id}],
    }
    rewrite(store, slot(4), **{field: changed[field]})
    for reader in readers(served):
        assert reader.resolve("support").number == 1
        assert reader.state("support").violations[-1].n == 4


def test_bytes_that_read_in_two_ways_are_signed_by_nobody(served: People, store: MemoryStore) -> None:
    served.as_("worker").alias("support", "prod", "v2")
    event = msgspec.json.decode(store.get(slot(4)))
    other = served.as_().show("support@v1").digest
    evil = msgspec.json.encode([event["ops"][0] | {"to": {other: 1.0}}])
    rewrite(store, slot(4))
    store.put(slot(4), b'{"ops":' + evil + b"," + store.get(slot(4))[1:])
    assert served.as_().state("support").violations[-1].n == 4
    assert served.as_().resolve("support").number == 1


@pytest.mark.parametrize("place", ["t/default/a/other", "t/rich/a/support"])
def test_a_log_moved_elsewhere_is_not_believed_there(served: People, store: MemoryStore, place: str) -> None:
    for key in list(store.data):
        if key.startswith("t/default/a/support/"):
            store.data[key.replace("t/default/a/support", place)] = store.data[key]
    _, tenant, _, adapter = place.split("/")
    with pytest.raises(Refused, match="no rules signed by a trusted key"):
        served.as_(tenant=tenant).resolve(adapter)
    assert served.as_(tenant=tenant).adapter_log(adapter).fold().violations, "and it is told why"


def test_a_log_rewritten_from_its_first_event_is_refused(served: People, store: MemoryStore) -> None:
    for key in [key for key in store.data if key.startswith("t/default/a/support/")]:
        store.delete(key)
    mine = new_key(served.work / "thief.key")
    thief = served.thief(mine)
    thief.commit("support", set_rules(Rules(keys={"me": mine.id}, owners=("me",))), create=True)
    thief.publish("support", served.folder(), aliases={"prod": None})
    with pytest.raises(Refused, match="no rules signed by a trusted key"):
        served.as_().resolve("support")
    assert served.without_roots().resolve("support").number == 1, "trusted_keys is what this needs"


def test_planted_checkpoints_are_not_believed_where_roots_are(served: People, store: MemoryStore) -> None:
    worker = served.without_roots("worker")
    while worker.adapter_log("support").position().n < CHECKPOINT_EVERY:
        worker.alias("support", "canary", "v1")
    key = f"t/default/a/support/ckpt/{CHECKPOINT_EVERY:020d}.json"
    log = served.without_roots().adapter_log("support")
    honest = log.position()
    lie = msgspec.structs.replace(honest.state, aliases={"prod": honest.state.versions[1].digest})
    saved = msgspec.json.decode(store.get(key), type=Checkpoint[AdapterState])
    store.put(key, seal(msgspec.structs.replace(saved, state=lie)))
    assert served.as_().resolve("support").number == 1
    with pytest.raises(Corrupt, match="is not the fold of the log"):
        served.without_roots().verify("support")


def test_a_stolen_worker_key_can_do_what_the_worker_could_until_it_is_removed(served: People) -> None:
    stolen = served.thief(served.key("worker"))
    stolen.alias("support", "prod", "v2")
    assert served.as_().resolve("support").number == 2
    stolen.commit("support", set_rules(served.rules(owners=("worker",))))
    served.as_("ada").commit("support", set_rules(served.rules(publishers=(), aliases={})))
    served.as_("ada").rollback("support")
    stolen.alias("support", "prod", "v2")
    state = served.as_().state("support")
    assert served.as_().resolve("support").number == 1
    assert [violation.n for violation in state.violations] == [5, 8]


def test_a_publisher_cannot_borrow_the_reviews_of_another_digest(people: People) -> None:
    people.govern(aliases={"prod": AliasRule(signers=("worker",), reviews=1)})
    good = people.as_("worker").publish("support", people.folder())
    people.as_("bob").commit("support", review("v1", "approve"))
    evil = people.as_("worker").publish("support", people.folder())
    people.as_("ada").delete("support", "v1")
    forged = Publish(digest=good.digest, manifest=evil.manifest, loc=evil.locations)
    with pytest.raises(Refused, match="does not have the digest"):
        people.as_("worker").commit("support", lambda _: [forged])
    move = MoveAlias(name="prod", to={good.digest: 1.0})
    people.thief(people.key("worker")).commit("support", lambda _: [forged, move])
    with pytest.raises(NotFound):
        people.as_().resolve("support")


def test_one_bad_op_voids_its_whole_event(served: People) -> None:
    good = MoveAlias(name="prod", to={served.as_().show("support@v2").digest: 1.0})
    bad = SetPolicy(policy={"capture": True})
    served.thief(served.key("worker")).commit("support", lambda _: [good, bad])
    assert served.as_().resolve("support").number == 1


def test_rules_that_come_second_in_an_event_are_judged_like_any(people: People) -> None:
    worker = people.without_roots("worker")
    worker.publish("support", people.folder())
    move = MoveAlias(name="prod", to={worker.resolve("support@v1").digest: 1.0})
    both = [move, SetRules(rules=people.rules())]
    people.thief().commit("support", lambda _: both)
    assert people.without_roots().state("support").rules == people.rules()
    with pytest.raises(Refused, match="no rules signed"):
        people.as_().state("support")
    people.as_("root").commit("support", lambda _: both)
    assert people.as_().resolve("support").number == 1


def test_each_op_is_judged_by_the_rules_before_it(served: People) -> None:
    loose = SetRules(rules=served.rules(owners=("ada", "worker")))
    gone = Delete(digest=served.as_().show("support@v2").digest)
    with pytest.raises(Refused, match="new rules are for ada"):
        served.as_("worker").commit("support", lambda _: [loose, gone])
    served.as_("ada").commit("support", lambda _: [loose, gone])
    assert len(served.as_().state("support").versions) == 1


def test_a_right_taken_away_in_the_last_moment_is_gone(served: People, store: MemoryStore) -> None:
    """The rules change between the writer's first look and its commit."""

    class Between(Wrapper):
        def create(self, key: str, data: bytes) -> bool:
            if "/dirty/" in key:
                served.as_("ada").commit("support", set_rules(served.rules(aliases={})))
            return self.inner.create(key, data)

    worker = Registry(Between(store), actor="worker", trust=Trust(served.key("worker"), served.roots))
    with pytest.raises(Refused, match="moving prod is for ada, not for worker"):
        worker.alias("support", "prod", "v2")
    assert served.as_().resolve("support").number == 1
    assert served.as_().state("support").violations == ()


def test_an_alias_never_points_at_what_is_no_version(served: People) -> None:
    nowhere = MoveAlias(name="prod", to={f"sha256:{'0' * 64}": 1.0})
    served.thief(served.key("worker")).commit("support", lambda _: [nowhere])
    assert "is no version here" in served.as_().state("support").violations[-1].rule


def test_blobs_of_void_versions_are_kept_as_evidence(served: People, store: MemoryStore) -> None:
    with suppress(Conflict):
        served.thief().publish("support", served.folder())
    blobs = {key for key in store.data if "/blobs/" in key}
    (report,) = collect(served.as_("worker", clock=lambda: 4e9), ["support"], grace_s=0.0)
    assert {key for key in store.data if "/blobs/" in key} == blobs
    assert {finding.why for finding in report.blobs} == {"evidence: an event that broke the rules published it"}


@pytest.mark.parametrize("open_again", REAL_STORES, indirect=True)
def test_the_same_on_real_stores(open_again: OpenAgain, tmp_path: Path) -> None:
    people = People(open_again(), tmp_path)
    people.govern(aliases={"prod": AliasRule(signers=("worker",), reviews=1)})
    people.as_("worker").publish("support", people.folder())
    with pytest.raises(Refused, match="0 of 1 approvals"):
        people.as_("worker").alias("support", "prod", "v1")
    people.as_("bob").commit("support", review("v1", "approve"))
    people.as_("worker").alias("support", "prod", "v1")
    people.thief().alias("support", "prod", None)
    people.store = open_again()
    for reader in readers(people):
        assert reader.resolve("support").number == 1
        assert [each.n for each in reader.verify("support").violations] == [5]


def test_a_planted_adapter_does_not_stand_in_the_way_of_a_lineage(served: People) -> None:
    version = served.as_().resolve("support")
    forged = Publish(digest=version.digest, manifest=version.manifest, loc=version.locations)
    served.thief().commit("a-planted-one", lambda _: [forged], create=True)
    assert trace(served.as_(), version.digest).version == version


def test_who_may_not_abort_puts_the_index_in_order_all_the_same(served: People, store: MemoryStore) -> None:
    announce(store, "default", "support", "0" * 16, 1_000_000_000.0)
    assert served.as_().catalog.compact() >= 1
    assert [row.adapter for row in served.as_().list()] == ["support"]
    assert served.as_().state("support").violations == ()
    served.as_("worker").catalog.compact()
    assert "0" * 16 in served.as_().state("support").aborted
