"""The monitor as a whole: alarms where drift is and nowhere else, and the same verdicts however often it dies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from monitoring.basis import Basis
from monitoring.monitor import Monitor
from monitoring.sensor import hour_of
from registry.errors import Unavailable
from registry.jobs import Jobs
from registry.ulid import ulid


def poll_all(monitor: Monitor) -> list[Any]:
    poll = monitor.poll()
    alarms = [*poll.alarms]
    while poll.more:
        poll = monitor.poll()
        alarms += poll.alarms
    return alarms


def test_the_drifted_adapter_alarms_and_the_other_does_not(world: Any) -> None:
    drifted, steady = world.publish("drifted", topic=1), world.publish("steady", topic=2)
    monitor = world.monitor()
    world.send(steady, world.embeddings(140, 3, 2))
    world.send(drifted, world.embeddings(40, 2, 1))
    onset = world.clock.now
    requests = world.send(drifted, world.embeddings(80, 4, 1, shift=6.0))
    world.settle()
    alarms = poll_all(monitor)
    assert {alarm.adapter for alarm in alarms} == {"drifted"}
    first = alarms[0]
    assert first.time - onset < 80
    assert onset - 10 <= first.since <= onset + 15
    assert set(first.request_ids) <= set(requests)
    status = monitor.status("drifted")
    assert status["state"] == "DRIFT"
    assert status["waiting_for"] == ["0 of 5 usable examples"]
    assert status["episode"]["alarm"]["digest"] == drifted.digest
    steady_status = monitor.status("steady")
    expected = {"state": "OK", "alarms": 0, "observations": 140, "sessions": 140, "episode": None, "unwatched": None}
    assert steady_status == steady_status | expected


def test_misrouted_traffic_is_named(world: Any) -> None:
    a, b = world.publish("a", topic=1), world.publish("b", topic=2)
    monitor = world.monitor()
    world.send(b, world.embeddings(20, 3, 2))
    world.send(a, world.embeddings(100, 4, 2))
    world.settle()
    poll_all(monitor)
    assert monitor.status("a")["episode"]["attribution"]["misrouted_from"] == "b"


def test_retries_of_one_session_are_one_piece_of_evidence(world: Any) -> None:
    version = world.publish("a")
    monitor = world.monitor()
    world.send(version, world.embeddings(200, 4, shift=6.0), session="stubborn client")
    world.settle()
    assert poll_all(monitor) == []
    assert monitor.status("a")["sessions"] == 1
    assert monitor.status("a")["observations"] == 200


def test_from_alarm_through_the_job_to_the_cooldown(world: Any) -> None:
    version = world.publish("a")
    monitor, jobs = world.monitor(), Jobs(world.store, "default", world.clock)
    requests = world.send(version, world.embeddings(100, 4, shift=6.0))
    for request_id in requests[60:63]:
        world.correct(version, request_id, "right answer")
    world.settle()
    assert poll_all(monitor)
    assert monitor.status("a")["waiting_for"] == ["3 of 5 usable examples"]
    for request_id in requests[63:66]:
        world.correct(version, request_id, "right answer")
    for i in range(20):
        world.correct(version, f"x{i}", "poison", session="one loud client")
    world.settle()
    monitor.poll()
    assert monitor.status("a")["waiting_for"] == ["10 usable examples, and more are coming in"]
    world.settle()
    monitor.poll()
    assert monitor.status("a")["state"] == "RETRAINING"
    (job,) = jobs.list()
    assert job.spec["parent"] == version.digest
    assert job.spec["kind"] == "drift-retrain"
    assert job.spec["examples"] == len(job.spec["request_ids"]) == 6 + 4
    assert job.spec["episode"] == monitor.status("a")["episode"]["key"]

    challenger = world.publish("a", seed=1)
    claimed = jobs.claim("worker", 60)
    assert claimed is not None
    world.registry.alias("a", "prod", challenger, expect=version.digest)
    jobs.succeed(claimed, {"promoted": True, "digest": challenger.digest, "reasons": ["better on new data"]})
    monitor.poll()
    status = monitor.status("a")
    assert status["state"] == "COOLDOWN"
    assert status["retrained"] == {"promoted": 1}
    assert status["episode"]["promoted"] == challenger.digest
    assert status["unwatched"] == "the version in production has had no traffic yet"
    world.send(challenger, world.embeddings(3, 9))
    world.clock.now += 601
    monitor.poll()
    assert monitor.status("a")["state"] == "OK"
    assert monitor.status("a")["sessions"] == 3
    monitor.poll()
    assert len(jobs.list()) == 1


def test_a_rejected_challenger_doubles_the_cooldown(world: Any) -> None:
    version = world.publish("a")
    monitor, jobs = world.monitor(), Jobs(world.store, "default", world.clock)
    ends = []
    for round_number in range(2):
        requests = world.send(version, world.embeddings(100, 4 + round_number, shift=6.0))
        for request_id in requests[-6:]:
            world.correct(version, request_id, "right answer")
        world.settle()
        poll_all(monitor)
        world.settle()
        monitor.poll()
        claimed = jobs.claim("worker", 60)
        assert claimed is not None
        jobs.fail(claimed, "out of memory")
        monitor.poll()
        episode = monitor.status("a")["episode"]
        assert (episode["state"], episode["outcome"]) == ("COOLDOWN", "rejected")
        assert "out of memory" in episode["reason"]
        ends.append(episode["cooldown_until"] - world.clock.now)
        world.clock.now = episode["cooldown_until"] + 1
        monitor.poll()
    assert ends == [1200.0, 2400.0]
    assert monitor.status("a")["retrained"] == {"rejected": 2}


def test_drift_of_a_version_no_longer_in_production_is_dropped(world: Any) -> None:
    version = world.publish("a")
    monitor = world.monitor()
    world.send(version, world.embeddings(100, 4, shift=6.0))
    world.settle()
    poll_all(monitor)
    world.registry.alias("a", "prod", world.publish("a", seed=1))
    world.settle()
    monitor.poll()
    assert monitor.status("a")["state"] == "OK"
    world.send(version, world.embeddings(100, 5, shift=6.0))
    world.settle()
    assert poll_all(monitor)
    assert monitor.status("a")["episodes"] == 1


def _episodes(world: Any) -> list[bytes]:
    return [world.store.get(key) for key in world.store.list("t/default/monitor/a/log/")]


@pytest.mark.parametrize("kill_every", [1, 3])
def test_a_monitor_killed_between_any_two_polls_gives_the_same_verdicts(
    make_world: Callable[[str], Any], kill_every: int
) -> None:
    """Three lives of one stream: undisturbed, killed all the time (snapshots lost too), and replayed at the end."""
    verdicts, evidence, keys = [], [], []
    for life in ("whole", "killed", "replayed"):
        world = make_world(life)
        version = world.publish("a")
        monitor = world.monitor("m0")
        alarms: list[Any] = []
        stream = [*world.embeddings(30, 2), *world.embeddings(90, 4, shift=5.0)]
        for i in range(0, len(stream), 10):
            world.send(version, stream[i : i + 10], gateway=f"gw{i % 3}")
            if life == "replayed" and i + 10 < len(stream):
                continue
            world.clock.now += 100.0 if life == "killed" else 2.0
            alarms += poll_all(monitor)
            if life == "killed" and (i // 10) % kill_every == 0:
                monitor = world.monitor(f"m{i}")
        world.clock.now += 100.0
        alarms += poll_all(monitor)
        status = monitor.status("a")
        verdicts.append((status["alarms"], status["episodes"], status["sessions"], status["observations"]))
        evidence.append(status["log_evidence"])
        keys.append(status["episode"]["alarm"]["num_sessions"])
        assert len(_episodes(world)) == 1
    assert verdicts[0] == verdicts[1] == verdicts[2]
    assert evidence[0] == evidence[1] == evidence[2]
    assert keys[0] == keys[1] == keys[2]


def test_a_replay_from_nothing_does_not_reopen_old_episodes(world: Any) -> None:
    version = world.publish("a")
    monitor = world.monitor()
    world.send(version, world.embeddings(100, 4, shift=6.0))
    world.settle()
    alarms = poll_all(monitor)
    before = _episodes(world)
    for key in [*world.store.list("t/default/monitor/_state/")]:
        world.store.delete(key)
    world.clock.now += 100
    assert poll_all(world.monitor("two")) == alarms
    assert _episodes(world) == before


def test_two_monitors_take_turns(world: Any) -> None:
    version = world.publish("a")
    one, two = world.monitor("one"), world.monitor("two")
    world.send(version, world.embeddings(20, 2))
    world.settle()
    assert one.poll().num_observations == 20
    assert not two.poll().leading
    world.clock.now += 31  # one is dead; two goes on where it stopped
    taken = two.poll()
    assert taken.leading
    assert taken.num_observations == 0
    assert two.status("a")["sessions"] == 20
    world.send(version, world.embeddings(5, 3))
    world.settle()
    assert not one.poll().leading  # it wakes up and sees its term is over
    two.poll()
    two.close()
    assert one.poll().leading  # handed over at once
    assert one.status("a")["sessions"] == 25


def test_an_alarm_is_not_lost_when_the_store_fails_before_it_is_on_record(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = world.publish("a")
    monitor = world.monitor()
    world.send(version, world.embeddings(100, 4, shift=6.0))
    world.settle()
    create = world.store.create

    def fail(key: str, data: bytes) -> bool:
        if "/monitor/a/" in key:
            raise Unavailable("the store went away")
        created: bool = create(key, data)
        return created

    monkeypatch.setattr(world.store, "create", fail)
    with pytest.raises(Unavailable):
        monitor.poll()
    monkeypatch.setattr(world.store, "create", create)
    monitor.poll()
    assert monitor.status("a")["state"] == "DRIFT"


def test_damaged_and_unusable_observations_are_passed_over(world: Any) -> None:
    version, blind = world.publish("a"), world.publish("blind", with_reference=False)
    monitor = world.monitor()
    now = world.clock.now
    world.store.create(f"t/default/obs/{hour_of(now)}/{ulid(now)}-gw.safetensors", b"\0" * 40)
    odd = world.embeddings(3, 2)
    odd[1] = float("nan")
    world.send(version, odd)
    world.send(version, odd[:, :7])
    world.send(blind, world.embeddings(2, 2))
    world.settle()
    assert poll_all(monitor) == []
    assert monitor.status("a")["observations"] == 6
    assert monitor.status("a")["sessions"] == 2
    assert monitor.status("blind")["unwatched"] == "blind@v1 carries no reference.safetensors"
    assert monitor.status("nobody")["state"] == "OK"


def test_a_reference_of_another_basis_is_not_used(world: Any) -> None:
    world.basis = Basis.fit(world.embeddings(100, 77), seed=3)
    version = world.publish("a")
    monitor = world.monitor()
    world.send(version, world.embeddings(2, 2))
    world.settle()
    monitor.poll()
    assert "another basis" in monitor.status("a")["unwatched"]
