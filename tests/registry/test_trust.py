"""What signed rules keep up, for every reader, against somebody who holds the bucket's credentials but no key."""

from __future__ import annotations

import time
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
from registry.consent import agree, review, set_rules
from registry.errors import Conflict, Corrupt, NotFound, Refused
from registry.gc import collect
from registry.lineage import trace
from registry.notices import announce
from registry.ops import Delete, Grant, MoveAlias, Publish, Quarantine, SetPolicy, SetRules
from registry.rules import AliasRule, Bound, Rules
from registry.sealed import seal
from registry.signing import new_key
from registry.trust import Trust
from registry.versions import AdapterState
from tests.registry.conftest import REAL_STORES, OpenAgain
from tests.registry.people import People, rewrite
from tests.registry.stores import MemoryStore, Wrapper


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def people(store: MemoryStore, tmp_path: Path) -> People:
    return People(store, tmp_path)


@pytest.fixture
def served(people: People) -> People:
    """`support` under rules: v1 in prod, v2 published."""
    people.govern()
    people.as_("worker").publish("support", people.folder(), aliases={"prod": None})
    people.as_("worker").publish("support", people.folder())
    return people


def readers(people: People) -> list[Registry]:
    """Fresh processes: with roots and without."""
    return [people.as_(), people.without_roots()]


# without rules


def test_an_open_registry_asks_for_no_signature_and_writes_none(people: People, store: MemoryStore) -> None:
    plain = Registry(store, actor="anybody")
    plain.publish("support", people.folder(), aliases={"prod": None})
    event = msgspec.json.decode(store.get(slot(1)))
    assert (event["v"], "sig" in event, "signers" in event) == (1, False, False)
    assert people.without_roots().resolve("support").signers == ()


def test_with_roots_nothing_is_believed_before_a_root_has_signed_rules(people: People) -> None:
    people.without_roots().publish("support", people.folder(), aliases={"prod": None})
    for ask in (lambda r: r.resolve("support"), lambda r: r.show("support@v1"), lambda r: r.state("support")):
        with pytest.raises(Refused, match="no rules signed by a trusted key"):
            ask(people.as_())
    with pytest.raises(Refused, match="no rules signed"):
        people.as_("worker").publish("support", people.folder())
    assert len(people.as_().log("support")) == 1, "whoever is to vouch for a history can look at it first"
    people.govern()
    assert people.as_().resolve("support").number == 1, "the root's signature vouches for what came before"


def test_the_first_rules_count_only_from_a_root(people: People) -> None:
    mine = people.rules(owners=("eve",))
    with pytest.raises(Refused, match="must be signed by a trusted root"):
        people.as_("eve").commit("support", set_rules(mine), create=True)
    people.thief(people.key("eve")).commit("support", set_rules(mine), create=True)
    with pytest.raises(Refused, match="no rules signed"):
        people.as_().state("support")
    people.govern()
    assert people.as_().state("support").rules == people.rules()


# rights


def test_the_owner_of_a_right_may_and_nobody_else(served: People) -> None:
    for name, may in (("worker", True), ("ada", True), ("bob", False), (None, False)):
        opened = served.as_(name)
        if may:
            opened.alias("support", "prod", "v2")
        else:
            with pytest.raises(Refused, match=r"moving prod is for ada, worker, not for (bob|somebody without a key)"):
                opened.alias("support", "prod", "v1")
    assert served.as_().resolve("support").number == 2


@pytest.mark.parametrize("name", ["worker", "bob"])
@pytest.mark.parametrize(
    "act",
    [
        lambda r: r.set_policy("support", {"capture": True}),
        lambda r: r.delete("support", "v2"),
        lambda r: r.commit("support", set_rules(Rules(keys=r.state("support").rules.keys, owners=("worker",)))),
        lambda r: r.commit("support", lambda _: [Grant(tenant="other", selector="*")]),
        lambda r: r.commit("support", lambda _: [Quarantine(digest="sha256:1", lifted=True)]),
    ],
)
def test_what_no_rule_allows_is_for_owners(served: People, name: str, act: Callable[[Registry], Any]) -> None:
    with pytest.raises(Refused, match=f"for ada, not for {name}"):
        act(served.as_(name))
    act(served.as_("ada"))


def test_stopping_is_allowed_to_everybody_named(served: People) -> None:
    served.as_("bob").quarantine("support", "v2", "it swears")
    with pytest.raises(Refused, match="quarantine is for ada, not for worker"):
        served.as_("worker").quarantine("support", "v2", "", lift=True)
    served.as_("ada").quarantine("support", "v2", "", lift=True)


def test_a_refusal_comes_before_any_upload(served: People, store: MemoryStore) -> None:
    before = set(store.data)
    with pytest.raises(Refused, match="publishing is for ada, worker, not for bob"):
        served.as_("bob").publish("support", served.folder())
    assert set(store.data) == before


def test_everybody_without_trusted_keys_keeps_the_rules_too(served: People) -> None:
    with pytest.raises(Refused, match="moving prod"):
        served.without_roots("bob").alias("support", "prod", "v2")
    served.without_roots("worker").alias("support", "prod", "v2")
    assert [reader.resolve("support").number for reader in readers(served)] == [2, 2]


# what a version needs


def test_reviews_by_others(people: People) -> None:
    people.govern(publishers=("worker", "bob"), aliases={"prod": AliasRule(signers=("worker",), reviews=2)})
    people.as_("bob").publish("support", people.folder())
    worker = people.as_("worker")

    def move() -> None:
        worker.alias("support", "prod", "v1")

    people.as_("bob").commit("support", review("v1", "approve"))
    people.as_("eve").commit("support", review("v1", "approve", "fine"))
    with pytest.raises(Refused, match="1 of 2 approvals by others than its publisher"):
        move()
    people.as_("eve").commit("support", review("v1", "approve", "still fine"))
    with pytest.raises(Refused, match="1 of 2"):
        move()
    people.as_("ada").commit("support", review("v1", "reject", "rude"))
    with pytest.raises(Refused, match="ada rejected it"):
        move()
    people.as_("ada").commit("support", review("v1", "approve"))
    move()
    with pytest.raises(Refused, match="reviewing is for ada, bob, eve, not for worker"):
        worker.commit("support", review("v1", "approve"))


def test_requirements_bind_owners_and_roots_too(people: People) -> None:
    people.govern(aliases={"prod": AliasRule(reviews=1)})
    people.as_("worker").publish("support", people.folder())
    for name in ("ada", "root"):
        with pytest.raises(Refused, match="0 of 1 approvals"):
            people.as_(name).alias("support", "prod", "v1")


def test_metrics_and_suites(people: People) -> None:
    rule = AliasRule(signers=("worker",), metrics={"test/accuracy": Bound(min=0.9)}, suites={"test": "c" * 64})
    people.govern(aliases={"prod": rule})
    worker = people.as_("worker")
    for tags, metrics, problem in (
        ({}, {"test/accuracy": 1.0}, "its tag suite/test is not set, not cccccccccccc"),
        ({"suite/test": "d" * 64}, {"test/accuracy": 1.0}, "its tag suite/test is dddddddddddd"),
        ({"suite/test": "c" * 64}, {}, "test/accuracy must be at least 0.9, and is not measured"),
        ({"suite/test": "c" * 64}, {"test/accuracy": 0.89}, "and is 0.89"),
    ):
        with pytest.raises(Refused, match=problem):
            worker.publish("support", people.folder(), tags=tags, metrics=metrics, aliases={"prod": None})
    assert people.as_().state("support").versions == (), "what is refused is not published either"
    good = {"tags": {"suite/test": "c" * 64}, "metrics": {"test/accuracy": 0.9}}
    worker.publish("support", people.folder(), aliases={"prod": None}, **good)
    assert people.as_().resolve("support").number == 1


def test_every_share_of_an_alias_needs_what_the_rule_says(served: People) -> None:
    rule = AliasRule(signers=("worker",), reviews=1)
    served.as_("ada").commit("support", set_rules(served.rules(aliases={"prod": rule})))
    served.as_("bob").commit("support", review("v1", "approve"))
    with pytest.raises(Refused, match="v2 may not be prod: it has 0 of 1"):
        served.as_("worker").alias("support", "prod", {"v1": 0.99, "v2": 0.01})
    served.as_("bob").commit("support", review("v2", "approve"))
    served.as_("worker").alias("support", "prod", {"v1": 0.99, "v2": 0.01})


# changing the rules


def test_rules_are_changed_by_their_owners_step_by_step(served: People) -> None:
    served.as_("ada").commit("support", set_rules(served.rules(owners=("bob",))))
    with pytest.raises(Refused, match="new rules are for bob, not for ada"):
        served.as_("ada").commit("support", set_rules(served.rules()))
    served.as_("bob").commit("support", set_rules(served.rules(owners=("bob", "eve"), owners_needed=2)))
    assert served.as_("bob").commit("support", set_rules(served.as_().state("support").rules or served.rules())) is None
    wanted = served.rules(owners=("ada",))
    with pytest.raises(Refused, match="need 2 owners to agree; bob did"):
        served.as_("bob").commit("support", set_rules(wanted))
    served.as_("eve").commit("support", agree(served.rules(owners=("ada", "eve"))))
    with pytest.raises(Refused, match="need 2 owners"):
        served.as_("bob").commit("support", set_rules(wanted))
    served.as_("eve").commit("support", agree(wanted))
    served.as_("bob").commit("support", set_rules(wanted))
    for reader in readers(served):
        state = reader.state("support")
        assert (state.rules, state.violations) == (wanted, ())


def test_a_root_mends_rules_whose_owners_are_lost(served: People) -> None:
    served.as_("root").commit("support", set_rules(served.rules(owners=("bob",))))
    trusting, open_ = (reader.state("support") for reader in readers(served))
    assert (trusting.rules, trusting.violations) == (served.rules(owners=("bob",)), ())
    assert open_.rules == served.rules(), "a reader without trusted_keys knows no root"
    assert "new rules are for ada" in open_.violations[-1].rule


def test_rules_that_nobody_could_follow_are_void(served: People) -> None:
    served.thief(served.key("ada")).commit("support", lambda _: [SetRules(rules=Rules(keys={}, owners=()))])
    assert "0 owners" in served.as_().state("support").violations[-1].rule
    assert served.as_().state("support").rules == served.rules()


# the thief


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


# memory


def test_a_machine_that_has_seen_the_head_finds_a_log_cut_short(served: People, store: MemoryStore) -> None:
    served.as_("worker").alias("support", "prod", "v2")
    seen = remembering(served)
    assert seen.resolve("support").number == 2
    newest = store.data.pop(slot(4))
    assert seen.resolve("support").number == 2, "a process that runs on is not deceived"
    with pytest.raises(Corrupt, match="cut short or forked") as caught:
        remembering(served).resolve("support")
    assert str(served.work / "memory") in caught.value.hint
    assert served.as_().resolve("support").number == 1, "a machine that never saw it cannot know"
    served.as_("worker").alias("support", "prod", "v1")
    with pytest.raises(Corrupt, match="cut short or forked"):
        remembering(served).resolve("support")
    store.data[slot(4)] = newest
    assert remembering(served).resolve("support").number == 2


def test_a_fork_is_found_by_a_process_that_runs_on(served: People, store: MemoryStore) -> None:
    running = served.as_()
    served.as_("worker").alias("support", "prod", "v2")
    assert running.resolve("support").number == 2
    del store.data[slot(4)]
    for target in ("v1", "v2"):
        served.as_("worker").alias("support", "prod", target)
    with pytest.raises(Corrupt, match="chain"):
        running.resolve("support")


def test_memory_is_where_the_next_process_begins(served: People, store: MemoryStore) -> None:
    assert remembering(served).resolve("support").number == 1
    before = store.num_gets
    assert remembering(served).resolve("support").number == 1
    assert store.num_gets == before + 3, "the hint, the event remembered, and the slot after it"
    for memory in (served.work / "memory").rglob("support.json"):
        memory.write_bytes(b"torn")
    assert remembering(served).resolve("support").number == 1


def test_a_machine_without_memory_asks_for_many_events_at_once(served: People, store: MemoryStore) -> None:
    worker = served.as_("worker")
    for number in range(30):
        worker.alias("support", "prod", f"v{1 + number % 2}")

    class Slow(Wrapper):
        asking = most = 0

        def get(self, key: str) -> bytes:
            self.asking += 1
            self.most = max(self.most, self.asking)
            time.sleep(0.002)
            self.asking -= 1
            return self.inner.get(key)

    slow = Slow(store)
    assert Registry(slow, trust=Trust(None, served.roots)).resolve("support").number == 2
    assert slow.most > 4


def test_memory_of_other_roots_is_worth_its_head_only(served: People, store: MemoryStore) -> None:
    assert remembering(served).resolve("support").number == 1
    others = frozenset({served.key("eve").id})
    with pytest.raises(Refused, match="no rules signed"):
        Registry(store, trust=Trust(None, others, served.work / "memory")).resolve("support")
    assert remembering(served).resolve("support").number == 1


def remembering(people: People) -> Registry:
    return Registry(people.store, actor="reader", trust=Trust(None, people.roots, people.work / "memory"))


def slot(n: int) -> str:
    return f"t/default/a/support/log/{n:020d}.json"
