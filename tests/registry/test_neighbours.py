"""The view that a grant gives, held against its one rule on random histories: what is granted, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import LorimerError
from registry.log import Event
from registry.manifest import Manifest, digest
from registry.names import parse_selector
from registry.neighbours import EVERYTHING, view
from registry.ops import Delete, MoveAlias, Op, Publish, Quarantine, SetPolicy
from registry.versions import AdapterState, fold
from tests.registry.folders import PROFILE

COUNT = 4
ALIASES = ("prod", "canary")
MANIFESTS = [
    Manifest(files=(), method="lora", rank=rank, alpha=1.0, targets=("q",), base=PROFILE.identity)
    for rank in range(1, COUNT + 1)
]
DIGESTS = [digest(manifest) for manifest in MANIFESTS]
SELECTORS = (*ALIASES, *(f"v{number}" for number in range(1, COUNT + 1)))

targets = st.dictionaries(st.sampled_from(DIGESTS), st.floats(0.1, 1.0), max_size=2)
moves = st.builds(MoveAlias, name=st.sampled_from(ALIASES), to=targets)
others = st.builds(Delete, digest=st.sampled_from(DIGESTS)) | st.builds(Quarantine, digest=st.sampled_from(DIGESTS))


def told(ops: Sequence[Op]) -> AdapterState:
    """The fold of four versions and then of these operations, as far as a writer would have let them pass."""
    published = [Publish(digest=d, manifest=m, loc={}) for d, m in zip(DIGESTS, MANIFESTS, strict=True)]
    state = AdapterState(tenant="owner", adapter="x")
    for n, op in enumerate([*published, SetPolicy(policy={"capture": True}), *ops], start=1):
        if isinstance(op, MoveAlias) and not all(state.find(target) for target in op.to):
            continue
        if isinstance(op, Delete) and state.aliases_of(op.digest):
            continue
        state = fold(state, Event(n=n, prev="", tx="t", actor="a", time=float(n), ops=(op,)))
    return state


def allowed(state: AdapterState, granted: Sequence[str]) -> set[str]:
    """The rule, said once more: everything, or what an alias or number that is granted means now."""
    if EVERYTHING in granted:
        return {version.digest for version in state.versions}
    by_alias = {target for alias in ALIASES if alias in granted for target in state.standing(alias)}
    return by_alias | {version.digest for version in state.versions if f"v{version.number}" in granted}


@given(
    ops=st.lists(moves | others, max_size=12), granted=st.lists(st.sampled_from((*SELECTORS, EVERYTHING)), max_size=3)
)
def test_a_view_shows_what_is_granted_and_nothing_else(ops: list[Op], granted: list[str]) -> None:
    state = told(ops)
    shown = view(state, granted)
    digests = allowed(state, granted)
    assert {version.digest for version in shown.versions} == digests
    for alias in ALIASES:
        is_shown = alias in state.aliases and (EVERYTHING in granted or alias in granted)
        assert shown.standing(alias) == (state.standing(alias) if is_shown else {})
    for text in (*SELECTORS, *DIGESTS):
        meant = selected(state, text)
        is_shown = text in shown.aliases if text in ALIASES else meant in digests
        assert selected(shown, text) == (meant if is_shown else None)
    assert shown.quarantined == {each: why for each, why in state.quarantined.items() if each in digests}
    assert {move.alias for move in shown.alias_history} <= set(shown.aliases)
    nothing = AdapterState(tenant="owner", adapter="x")
    private = set(AdapterState.__struct_fields__) - {
        "versions", "aliases", "splits", "alias_history", "quarantined", "created_at", "updated_at"
    }  # fmt: skip
    assert all(getattr(shown, name) == getattr(nothing, name) for name in private)


def selected(state: AdapterState, text: str) -> str | None:
    try:
        return state.select(parse_selector(text)).digest
    except LorimerError:
        return None


def test_what_is_added_to_the_state_is_private_until_somebody_shares_it() -> None:
    """A field that is new has to be thought about here: the view is built from what it shows."""
    state = told([])
    full = msgspec.structs.replace(state, reviews={DIGESTS[0]: ()}, grants={"beta": ("*",)})
    assert view(full, [EVERYTHING]) == view(state, [EVERYTHING])
