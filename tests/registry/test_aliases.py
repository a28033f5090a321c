"""Which version of a split alias a session gets: shares are exact, everybody agrees, and few move when weights do."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from registry.aliases import pick

SESSIONS = [f"session-{number}" for number in range(20_000)]
WEIGHTS = st.floats(0.001, 1000)
SPLITS = st.dictionaries(st.sampled_from([f"sha256:{number}" for number in range(6)]), WEIGHTS, min_size=1)


def drawn(targets: dict[str, float]) -> dict[str, str]:
    return {session: pick(targets, session) for session in SESSIONS}


@pytest.mark.parametrize("weights", [(5, 95), (1, 1), (1, 9, 90), (0.2, 0.3, 0.5), (7, 7, 7, 7, 7)])
def test_shares_are_the_weights(weights: tuple[float, ...]) -> None:
    """By a chi-square test at one in a million: the sessions are fixed, so it passes always or never."""
    targets = {f"sha256:{number}": weight for number, weight in enumerate(weights)}
    counts = Counter(drawn(targets).values())
    expected = [len(SESSIONS) * weight / sum(weights) for weight in weights]
    assert stats.chisquare([counts[digest] for digest in targets], expected).pvalue > 1e-6


def test_a_canary_that_grows_keeps_everybody_it_had() -> None:
    before: set[str] = set()
    for percent in (1, 5, 10, 25, 50, 75, 95, 99):
        now = {session for session, digest in drawn({"new": percent, "old": 100 - percent}).items() if digest == "new"}
        assert before <= now, f"somebody left the canary when it grew to {percent} %"
        assert len(now) == pytest.approx(len(SESSIONS) * percent / 100, rel=0.1)
        before = now


def test_a_third_version_takes_from_both_and_gives_to_none() -> None:
    before, after = drawn({"new": 5, "old": 95}), drawn({"new": 5, "old": 95, "newest": 10})
    moved = [session for session in SESSIONS if before[session] != after[session]]
    assert {after[session] for session in moved} == {"newest"}
    assert len(moved) == pytest.approx(len(SESSIONS) * 10 / 110, rel=0.1)


def test_shares_of_two_aliases_are_drawn_apart() -> None:
    targets = {"new": 1.0, "old": 1.0}
    both = Counter((pick(targets, f"a@prod\0{session}"), pick(targets, f"b@prod\0{session}")) for session in SESSIONS)
    assert stats.chisquare(list(both.values())).pvalue > 1e-6


@given(SPLITS, st.text(), st.sampled_from(["sha256:0", "sha256:3"]), st.floats(1, 100))
def test_a_weight_that_grows_only_takes(targets: dict[str, float], draw: str, grown: str, factor: float) -> None:
    before = pick(targets, draw)
    assert before == pick(dict(reversed(targets.items())), draw), "the order of the weights means nothing"
    assert before == pick({digest: weight * 0.01 for digest, weight in targets.items()}, draw), "nor does their scale"
    after = pick({**targets, grown: targets.get(grown, 0.0) * factor}, draw)
    assert after in (before, grown)


def test_what_weighs_nothing_is_never_taken() -> None:
    assert {pick({"none": 0.0, "some": 0.1}, session) for session in SESSIONS[:100]} == {"some"}
