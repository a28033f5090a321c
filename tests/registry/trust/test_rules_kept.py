"""What signed rules keep up, for every reader."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from registry.adapters import Registry
from registry.consent import agree, review, set_rules
from registry.errors import Refused
from registry.ops import Grant, Quarantine, SetRules
from registry.rules import AliasRule, Bound, Rules
from tests.registry.people import People, readers, slot
from tests.registry.stores import MemoryStore


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
