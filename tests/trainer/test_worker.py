from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from registry.adapters import Version
from registry.errors import Unavailable
from registry.jobs import Jobs
from registry.settings import Settings
from tests.trainer.test_retrain import capture, job
from trainer.worker import KINDS, Worker

if TYPE_CHECKING:
    from tests.trainer.conftest import Lab


@pytest.fixture
def jobs(lab: Lab) -> Jobs:
    return Jobs(lab.registry.store)


def make_worker(lab: Lab, lease_s: float = 30.0) -> Worker:
    settings = Settings(cache_dir=str(lab.home), lease_s=lease_s, worker_poll_s=0.01)
    return Worker(lab.registry, lab.base, lab.engine, settings)


def test_a_job_ends_in_a_promotion_with_its_reasons(lab: Lab, jobs: Jobs, champion: Version) -> None:
    jobs.submit("drift-1", job(champion, capture(lab, champion, "digits", "d", 40)))
    stop = threading.Event()
    thread = threading.Thread(target=make_worker(lab, lease_s=0.4).run, args=(stop,))
    thread.start()
    while not (done := jobs.get("drift-1")).finished:
        time.sleep(0.02)
    stop.set()
    thread.join()
    assert done.state == "succeeded", done.error
    assert done.attempt == 1
    assert done.result["promoted"] is True
    assert done.result["digest"] == lab.registry.resolve("letters@prod").digest
    assert done.result["reasons"]
    assert done.progress["stage"]


def test_a_rejection_is_a_success_of_the_job(lab: Lab, jobs: Jobs, champion: Version) -> None:
    jobs.submit("drift-1", job(champion, capture(lab, champion, "vowels", "v", 30)))
    done = make_worker(lab).work_once(threading.Event())
    assert done is not None
    assert (done.state, done.result["promoted"], done.result["digest"]) == ("succeeded", False, None)
    assert all(reason.startswith("FAIL") for reason in done.result["reasons"])


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ({"kind": "knit"}, "does not know jobs of kind 'knit'"),
        ({"kind": "drift-retrain"}, "not a drift job"),
        (
            {"kind": "drift-retrain", "adapter": "absent", "parent": "sha256:" + "0" * 64, "episode": "e"},
            "no adapter 'absent'",
        ),
    ],
)
def test_a_job_that_cannot_be_done_fails_and_says_why(
    lab: Lab, jobs: Jobs, spec: dict[str, Any], complaint: str
) -> None:
    jobs.submit("odd", spec)
    done = make_worker(lab).work_once(threading.Event())
    assert done is not None
    assert done.state == "failed"
    assert complaint in done.error
    assert make_worker(lab).work_once(threading.Event()) is None


def test_tenants_take_turns(lab: Lab, jobs: Jobs) -> None:
    for key in ("one", "two", "three"):
        jobs.submit(key, {"kind": "knit"})
    neighbours = [lab.registry.of_tenant(name) for name in ("acme", "default", "globex")]
    for neighbour in neighbours[::2]:
        Jobs(neighbour.store, neighbour.tenant).submit("theirs", {"kind": "knit"})
    settings = Settings(cache_dir=str(lab.home))
    hand = Worker(lab.registry, lab.base, lab.engine, settings, neighbours=lambda: neighbours)
    done = [hand.work_once(threading.Event()) for _ in range(6)]
    assert [job.key if job else None for job in done] == ["one", "theirs", "two", "theirs", "three", None]


def test_a_job_for_another_base_is_left_to_others(lab: Lab, jobs: Jobs) -> None:
    jobs.submit("other", {"kind": "fine-tune", "base": "0" * 64, "adapter": "a", "training_file": "file-1"})
    jobs.submit("ours", {"kind": "fine-tune", "base": lab.base.profile.identity.weights_sha256})
    done = make_worker(lab).work_once(threading.Event())
    assert done is not None
    assert (done.key, done.state) == ("ours", "failed")
    assert make_worker(lab).work_once(threading.Event()) is None
    assert jobs.get("other").state == "queued"


def test_what_was_published_before_is_not_published_again(lab: Lab, jobs: Jobs, champion: Version) -> None:
    spec = job(champion, capture(lab, champion, "digits", "d", 40))
    jobs.submit("first", spec)
    jobs.submit("second", spec)
    hand = make_worker(lab)
    first, second = (hand.work_once(threading.Event()) for _ in range(2))
    assert first is not None
    assert second is not None
    assert second.result["digest"] == first.result["digest"]
    assert second.result["promoted"] is True
    assert len(lab.registry.state("letters").versions) == 2


def test_trouble_that_is_not_the_jobs_leaves_it_to_be_claimed_again(
    lab: Lab, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise Unavailable("the store does not answer")

    monkeypatch.setitem(KINDS, "drift-retrain", offline)
    jobs.submit("one", {"kind": "drift-retrain", "adapter": "a", "parent": "sha256:00", "episode": "e"})
    assert make_worker(lab).work_once(threading.Event()) is None
    assert jobs.get("one").state == "running"


def test_a_lost_lease_stops_the_work(lab: Lab, jobs: Jobs, champion: Version) -> None:
    jobs.submit("drift-1", job(champion, capture(lab, champion, "digits", "d", 40)))

    def cancel() -> None:
        while not list(lab.home.glob("runs/letters-*/checkpoints/step-*")):
            time.sleep(0.005)
        jobs.cancel("drift-1")

    canceller = threading.Thread(target=cancel)
    canceller.start()
    assert make_worker(lab, lease_s=0.1).work_once(threading.Event()) is None
    canceller.join()
    assert jobs.get("drift-1").state == "cancelled"
    assert len(lab.registry.state("letters").versions) == 1


@pytest.mark.timeout(180)
def test_a_killed_workers_job_is_finished_by_the_next(
    lab: Lab, jobs: Jobs, champion: Version, tiny_base_dir: Path
) -> None:
    jobs.submit("drift-1", job(champion, capture(lab, champion, "digits", "d", 40)))
    environ = os.environ | {
        "LORIMER_STORE": lab.registry.store.url,
        "LORIMER_CACHE_DIR": str(lab.home),
        "LORIMER_BASE": str(tiny_base_dir),
        "LORIMER_DTYPE": "float32",
        "LORIMER_KV_TOKENS": "8192",
        "LORIMER_LEASE_S": "1",
        "LORIMER_THREADS": "1",
    }
    child = subprocess.Popen(
        [sys.executable, "-m", "lorimer", "worker"], env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    while not list(lab.home.glob("runs/letters-*/checkpoints/step-*")):
        assert child.poll() is None, child.stderr.read() if child.stderr else ""
        assert not jobs.get("drift-1").finished, jobs.get("drift-1")
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert jobs.get("drift-1").state == "running"
    assert len(lab.registry.state("letters").versions) == 1
    hand = make_worker(lab, lease_s=1.0)
    while (done := hand.work_once(threading.Event())) is None:
        assert not jobs.get("drift-1").finished, jobs.get("drift-1")
        time.sleep(0.05)
    assert done.attempt == 2
    assert done.result["promoted"] is True, done
    assert [version.manifest.trigger for version in lab.registry.state("letters").versions] == [None, "episode-1"]
