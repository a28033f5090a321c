from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.attribution import Attribution
from monitoring.detector import Alarm
from monitoring.episodes import FOLLOWS, STATES, Episode, EpisodeLog, Move, Open, fold
from monitoring.episodes import History as Past
from registry.directory import DirectoryStore
from registry.errors import Conflict
from registry.log import Event

ALARM = Alarm(
    adapter="a", digest="sha256:aa", version=1, time=10.0, since=5.0, log_evidence=9.5, log_threshold=9.2, mmd=0.3,
    num_sessions=50, channels={"phi": 1.0}, request_ids=("r1",),
)  # fmt: skip


@pytest.fixture
def episodes(tmp_path: Path) -> EpisodeLog:
    return EpisodeLog(DirectoryStore(tmp_path), "default", "a", clock=lambda: 100.0)


def opened(episodes: EpisodeLog, cause: str = "k1") -> Episode:
    episode = episodes.open(ALARM, Attribution(), cause)
    assert episode is not None
    return episode


def test_opening_twice_is_opening_once(episodes: EpisodeLog) -> None:
    episode = opened(episodes)
    assert episodes.open(ALARM, Attribution(), "k1") is None
    assert episodes.open(ALARM, Attribution(), "k2") is None
    episodes.move(episode.key, "OK", reason="dismissed", through="k5")
    assert episodes.open(ALARM, Attribution(), "k4") is None, "an alarm folded again after the episode was closed"
    assert opened(episodes, "k6").key != episode.key
    assert episodes.fold().num_opened == 2


def test_the_way_through(episodes: EpisodeLog) -> None:
    key = opened(episodes).key
    episodes.move(key, "RETRAINING", reason="enough examples", job="j1")
    history = episodes.move(key, "PROMOTED", "COOLDOWN", reason="won", digest="sha256:bb", cooldown_s=60.0)
    assert history.current is not None
    assert (history.state, history.current.outcome, history.current.job) == ("COOLDOWN", "promoted", "j1")
    assert (history.current.promoted, history.current.cooldown_until) == ("sha256:bb", 160.0)
    history = episodes.move(key, "OK", reason="cooldown over", through="k9")
    assert (history.current, history.outcomes, history.through) == (None, {"promoted": 1}, "k9")
    assert [each.key for each in history.past] == [key]


@pytest.mark.parametrize("path", [("PROMOTED",), ("COOLDOWN",), ("DRIFT",), ("RETRAINING", "OK"), ("WATCH",)])
def test_a_step_that_may_not_follow_is_refused_whole(episodes: EpisodeLog, path: Any) -> None:
    key = opened(episodes).key
    with pytest.raises(Conflict):
        episodes.move(key, *path, reason="no")
    assert episodes.fold().state == "DRIFT"


def test_only_the_episode_going_on_moves(episodes: EpisodeLog) -> None:
    with pytest.raises(Conflict):
        episodes.move("nothing", "OK", reason="no")
    with pytest.raises(Conflict, match="no drift to approve"):
        episodes.approve("someone")
    opened(episodes)
    with pytest.raises(Conflict):
        episodes.move("another", "OK", reason="no")
    assert episodes.approve("someone").approved


def test_another_process_sees_the_same(tmp_path: Path) -> None:
    one, two = (EpisodeLog(DirectoryStore(tmp_path), "default", "a", clock=lambda: 1.0) for _ in range(2))
    key = opened(one).key
    two.move(key, "RETRAINING", reason="go", job="j")
    assert one.fold() == two.fold()
    with pytest.raises(Conflict):
        one.move(key, "RETRAINING", reason="go", job="j")


def test_every_state_can_be_left() -> None:
    assert set(FOLLOWS) == set(STATES)
    assert all(FOLLOWS[state] for state in STATES)


@given(st.lists(st.sampled_from(STATES), max_size=12))
def test_the_fold_never_fails_on_a_legal_walk(wanted: list[Any]) -> None:
    """Random walks over the transition table: outcomes add up and a closed episode is kept."""
    history = Past(adapter="a")
    for n, to in enumerate(wanted, start=1):
        ops: tuple[Any, ...]
        if history.current is None:
            ops = (Open(episode=f"e{n}", cause=f"k{n:04d}", alarm=ALARM, attribution=Attribution()),)
        elif to in FOLLOWS[history.state]:
            ops = (Move(episode=history.current.key, to=to, reason="", through=f"k{n:04d}"),)
        else:
            continue
        event: Event[Any] = Event(n=n, prev="", tx="", actor="", time=float(n), ops=ops)
        before, history = history, fold(history, event)
        assert history.through >= before.through
    going_on = history.current is not None
    assert history.num_opened == len(history.past) + going_on
    ended = [*history.past, *([history.current] if history.current else [])]
    assert sum(history.outcomes.values()) == sum(each.outcome is not None for each in ended)
