"""Random histories by people and thieves: whatever is written, rules hold, readers agree, and nothing else changes."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.judging import Judge
from registry.log import Event
from registry.manifest import BaseIdentity, FileEntry, Manifest, digest
from registry.ops import Abort, Delete, Grant, MoveAlias, Op, Publish, Quarantine, Review, SetPolicy, SetRules
from registry.rules import AliasRule, Rules
from registry.versions import AdapterState, fold

KEYS = {name: f"ed25519:{number:064x}" for number, name in enumerate(("root", "ada", "worker", "bob", "eve"))}
THIEF = f"ed25519:{99:064x}"
ROOTS = frozenset({KEYS["root"]})


def manifest(number: int) -> Manifest:
    base = BaseIdentity(id="tiny", weights_sha256="a", tokenizer_sha256="b", template_sha256="c", shape_sha256="d")
    entry = FileEntry(path="adapter_model.safetensors", sha256=f"{number:064x}", size=1)
    return Manifest(files=(entry,), method="lora", rank=1, alpha=1.0, targets=("q",), base=base)


MANIFESTS = [manifest(number) for number in range(3)]
DIGESTS = [digest(each) for each in MANIFESTS]


def rules(owner: str, reviews: int) -> Rules:
    return Rules(
        keys=KEYS,
        owners=(owner, "root"),
        publishers=("worker",),
        reviewers=("bob", "eve"),
        aliases={"prod": AliasRule(signers=("worker",), reviews=reviews), "*": AliasRule(signers=("bob",))},
    )


any_digest = st.sampled_from(DIGESTS)
any_op: st.SearchStrategy[Op] = st.one_of(
    st.builds(
        lambda number, lies: Publish(
            digest=DIGESTS[(number + lies) % 3], manifest=MANIFESTS[number], loc={f"{number:064x}": "0" * 16}
        ),
        st.integers(0, 2),
        st.sampled_from([0, 0, 0, 1]),
    ),
    st.builds(
        lambda name, targets: MoveAlias(name=name, to=dict.fromkeys(targets, 1 / max(1, len(targets)))),
        st.sampled_from(["prod", "canary"]),
        st.lists(any_digest, max_size=2, unique=True),
    ),
    st.builds(lambda each: Delete(digest=each), any_digest),
    st.builds(
        lambda each, verdict: Review(digest=each, verdict=verdict), any_digest, st.sampled_from(["approve", "reject"])
    ),
    st.builds(lambda each, lifted: Quarantine(digest=each, lifted=lifted), any_digest, st.booleans()),
    st.builds(lambda tx: Abort(tx=tx), st.sampled_from(["1" * 16, "2" * 16])),
    st.builds(
        lambda owner, reviews: SetRules(rules=rules(owner, reviews)), st.sampled_from(["ada", "eve"]), st.integers(0, 2)
    ),
    st.just(SetPolicy(policy={"capture": True})),
    st.just(Grant(tenant="other", selector="*")),
)
any_event = st.tuples(
    st.lists(any_op, min_size=1, max_size=3),
    st.lists(st.sampled_from([*KEYS.values(), THIEF]), max_size=2, unique=True),
)
histories = st.lists(any_event, max_size=14)


def events(history: list[tuple[list[Op], list[str]]]) -> list[Event[Op]]:
    first = Event[Any](
        n=1, prev="", tx="f", actor="root", time=1.0, ops=(SetRules(rules=rules("ada", 1)),), signers=(KEYS["root"],)
    )
    rest = [
        Event[Any](n=n, prev="", tx=f"{n}", actor="x", time=float(n), ops=tuple(ops), signers=tuple(signers))
        for n, (ops, signers) in enumerate(history, 2)
    ]
    return [first, *rest]


def without_record(state: AdapterState) -> AdapterState:
    return msgspec.structs.replace(state, violations=(), next_version=0)


@given(history=histories)
@settings(max_examples=250, deadline=None)
def test_whatever_is_written_the_rules_hold(history: list[tuple[list[Op], list[str]]]) -> None:
    judge, state = Judge(ROOTS), AdapterState(tenant="t", adapter="x")
    for event in events(history):
        before, state = state, judge.fold(state, event)
        signers = set(event.signers or ())
        if not signers - {THIEF} and event.n > 1:
            assert without_record(state) == without_record(before), "nobody without a key changes anything"
        if len(state.violations) > len(before.violations):
            assert without_record(state) == without_record(before), "an event is void as a whole"
            assert state.violations[-1].n == event.n
        else:
            assert msgspec.structs.replace(state, violations=()) == msgspec.structs.replace(
                fold(before, event), violations=()
            ), "or counts as a whole"
        published = sum(isinstance(op, Publish) for op in event.ops)
        assert state.next_version == before.next_version + published, "numbers are the same to everybody"
        if state.policy != before.policy or state.rules != before.rules:
            owners = {KEYS[name] for name in (before.rules or rules("ada", 1)).owners}
            assert signers & owners
        assert all(state.find(each) for alias in state.aliases for each in state.standing(alias))
        assert all(digest(version.manifest) == version.digest for version in state.versions)


@given(history=histories)
@settings(max_examples=150, deadline=None)
def test_readers_with_and_without_roots_agree_where_the_rules_name_the_root(
    history: list[tuple[list[Op], list[str]]],
) -> None:
    trusting = open_ = AdapterState(tenant="t", adapter="x")
    for event in events(history):
        trusting, open_ = Judge(ROOTS).fold(trusting, event), Judge().fold(open_, event)
        assert trusting == open_


@given(history=histories)
@settings(max_examples=150, deadline=None)
def test_without_a_root_a_log_is_open_until_its_first_rules(history: list[tuple[list[Op], list[str]]]) -> None:
    trusting = open_ = plain = AdapterState(tenant="t", adapter="x")
    written = events(history)[1:]
    rooted = any(KEYS["root"] in (event.signers or ()) for event in written)
    ruled = False
    for event in written:
        trusting, open_, plain = Judge(ROOTS).fold(trusting, event), Judge().fold(open_, event), fold(plain, event)
        ruled = ruled or any(isinstance(op, SetRules) for op in event.ops)
        assert ruled or trusting == open_ == plain
        assert rooted or trusting.rules is None
        assert trusting.next_version == open_.next_version == plain.next_version


@given(history=histories)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_state_survives_a_checkpoint(history: list[tuple[list[Op], list[str]]]) -> None:
    state = AdapterState(tenant="t", adapter="x")
    for event in events(history):
        state = Judge(ROOTS).fold(state, event)
    assert msgspec.json.decode(msgspec.json.encode(state), type=AdapterState) == state
