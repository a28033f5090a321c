from __future__ import annotations

from typing import Any

import msgspec
import pytest

from monitoring.attribution import Attribution
from monitoring.detector import Alarm
from monitoring.episodes import Episode
from monitoring.trigger import (
    MAX_PER_SESSION,
    Decision,
    cooldown_s,
    decide,
    is_harmed,
    job_key,
    job_spec,
    usable_examples,
)
from registry.captures import Captured
from registry.policy import Policy

ALARM = Alarm(
    adapter="a", digest="sha256:aa", version=1, time=10.0, since=5.0, log_evidence=9.5, log_threshold=9.2, mmd=0.3,
    num_sessions=50, channels={"phi": 1.0}, request_ids=("r1",),
)  # fmt: skip
EPISODE = Episode(key="e1", state="DRIFT", alarm=ALARM, attribution=Attribution(), opened_at=10.0, updated_at=10.0)
POLICY = Policy(capture=True, min_examples=3)


def captured(i: int, **changes: Any) -> Captured:
    values: dict[str, Any] = {
        "request_id": f"r{i}", "time": float(i), "adapter": "a", "digest": "d", "response": "wrong",
        "messages": [{"role": "user", "content": f"question {i}"}], "session": f"s{i}", "correction": "right",
    }  # fmt: skip
    return Captured(**(values | changes))


def test_drift_and_enough_examples_file_a_job() -> None:
    assert decide(POLICY, EPISODE, 3) == Decision(True, ("drift", "3 usable examples", "policy auto"))


@pytest.mark.parametrize(
    ("policy", "episode", "examples", "reason"),
    [
        ({}, {}, 2, "2 of 3 usable examples"),
        ({"retrain": "off"}, {}, 9, "the policy has retraining off"),
        ({"retrain": "approve"}, {}, 9, "a person has to approve it"),
        ({"capture": False}, {}, 9, "capture is off, so there are no new examples"),
        ({"harm_required": True}, {}, 9, "no sign yet that answers got worse"),
        ({}, {"state": "RETRAINING"}, 9, "the episode is RETRAINING, not DRIFT"),
    ],
)
def test_what_stands_against_it_is_said(policy: Any, episode: Any, examples: int, reason: str) -> None:
    decision = decide(msgspec.structs.replace(POLICY, **policy), msgspec.structs.replace(EPISODE, **episode), examples)
    assert decision == Decision(False, (reason,))


def test_approval_and_harm_lift_their_bars() -> None:
    approve = msgspec.structs.replace(POLICY, retrain="approve", harm_required=True)
    assert decide(approve, msgspec.structs.replace(EPISODE, approved=True), 3, harmed=True).file


def test_one_client_cannot_decide_what_is_learned() -> None:
    loud = [captured(i, session="loud") for i in range(100)]
    assert usable_examples(loud) == loud[:MAX_PER_SESSION]
    assert len(usable_examples([*loud, *(captured(200 + i) for i in range(5))])) == MAX_PER_SESSION + 5


def test_only_new_corrected_conversations_count() -> None:
    same = [captured(i, messages=[{"role": "user", "content": "again"}]) for i in range(5)]
    blank = [captured(10, correction=None), captured(11, correction="  ")]
    assert [c.request_id for c in usable_examples([*blank, *reversed(same)])] == ["r0"]


def test_harm_is_a_majority_of_judged_answers() -> None:
    bad, good = [captured(i) for i in range(5)], [captured(i, correction=None, rating=1) for i in range(10, 15)]
    assert is_harmed([*bad, *good])
    assert not is_harmed([*bad[:4], *good])
    assert not is_harmed(bad), "five judgements are too few"
    assert not is_harmed([captured(i, correction="wrong", response="wrong") for i in range(9)])


def test_the_cooldown_doubles_and_stops_doubling() -> None:
    assert [cooldown_s(Policy(cooldown_s=10.0), n) for n in (0, 1, 2, 60)] == [10.0, 20.0, 40.0, 640.0]


def test_the_job_is_named_by_what_triggered_it() -> None:
    keys = {job_key(*parts) for parts in (("a", "d", "r", "e"), ("a", "d", "r", "f"), ("a", "dr", "", "e"))}
    assert len(keys) == 3
    assert job_key("a", "d", "r", "e") == job_key("a", "d", "r", "e")
    spec = job_spec("a", EPISODE, [captured(1)])
    assert spec == {
        "kind": "drift-retrain", "adapter": "a", "parent": "sha256:aa", "episode": "e1", "since": 5.0, "examples": 1,
        "request_ids": ["r1"],
    }  # fmt: skip
