"""Jobs: filed once, done by one, never lost with their worker."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from registry.errors import Conflict, Invalid, NotFound
from registry.jobs import MAX_ATTEMPTS, Job, Jobs
from registry.store import Store
from tests.registry.conftest import REAL_STORES, FakeClock
from tests.registry.stores import MemoryStore


@pytest.fixture
def jobs(clock: FakeClock) -> Jobs:
    return Jobs(MemoryStore(), clock=clock)


def test_a_duplicate_is_the_job_that_is_there(jobs: Jobs) -> None:
    first = jobs.submit("key", {"kind": "drift-retrain", "examples": 40})
    again = jobs.submit("key", {"kind": "something else"})
    assert (first.created, again.created) == (True, False)
    assert again.spec == first.spec
    assert [job.key for job in jobs.list()] == ["key"]


def test_from_queued_to_succeeded(jobs: Jobs, clock: FakeClock) -> None:
    jobs.submit("b", {})
    clock.now += 1
    jobs.submit("a", {})
    job = jobs.claim("worker-1", 30)
    assert job is not None
    assert (job.key, job.state, job.worker, job.attempt) == ("b", "running", "worker-1", 1)
    clock.now += 20
    job = jobs.progress(job, {"step": 3})
    assert (job.progress, job.lease_until) == ({"step": 3}, clock.now + 30)
    done = jobs.succeed(job, {"version": 2})
    assert (done.state, done.result, done.progress) == ("succeeded", {"version": 2}, {"step": 3})
    assert jobs.get("b") == done
    second = jobs.claim("worker-1", 30)
    assert second is not None
    assert jobs.fail(second, "no data").error == "no data"
    assert jobs.claim("worker-1", 30) is None


def test_a_lapsed_lease_goes_to_another_worker(jobs: Jobs, clock: FakeClock) -> None:
    jobs.submit("k", {})
    lost = jobs.claim("worker-1", 30)
    assert lost is not None
    assert jobs.claim("worker-2", 30) is None
    clock.now += 29
    lost = jobs.renew(lost, "worker-1")
    clock.now += 29
    assert jobs.claim("worker-2", 30) is None
    clock.now += 1
    taken = jobs.claim("worker-2", 30)
    assert taken is not None
    assert (taken.worker, taken.attempt) == ("worker-2", 2)
    for act in (lambda: jobs.renew(lost), lambda: jobs.progress(lost, {}), lambda: jobs.succeed(lost, {})):
        with pytest.raises(Conflict, match="worker-1 no longer holds"):
            act()
    assert jobs.succeed(taken, {}).worker == "worker-2"


def test_the_same_worker_restarted_is_another_claim(jobs: Jobs, clock: FakeClock) -> None:
    jobs.submit("k", {})
    before = jobs.claim("worker", 1)
    clock.now += 2
    after = jobs.claim("worker", 1)
    assert before is not None
    assert after is not None
    with pytest.raises(Conflict):
        jobs.succeed(before, {})
    jobs.succeed(after, {})


def test_a_job_that_kills_its_workers_fails(jobs: Jobs, clock: FakeClock) -> None:
    jobs.submit("k", {})
    for attempt in range(MAX_ATTEMPTS):
        job = jobs.claim("worker", 1)
        assert job is not None
        assert job.attempt == attempt + 1
        clock.now += 2
    assert jobs.claim("worker", 1) is None
    assert (jobs.get("k").state, jobs.get("k").error) == ("failed", "5 workers fell silent on it, last worker")


def test_cancel(jobs: Jobs) -> None:
    jobs.submit("k", {})
    job = jobs.claim("worker", 30)
    assert job is not None
    assert jobs.cancel("k", reason="not now").state == "cancelled"
    with pytest.raises(Conflict, match="cancelled"):
        jobs.renew(job)
    with pytest.raises(Conflict, match="already cancelled"):
        jobs.cancel("k")
    with pytest.raises(NotFound):
        jobs.cancel("unknown")
    assert jobs.submit("k", {}).created is False


def test_what_happened_to_a_job_is_told_in_order_and_in_part(jobs: Jobs, clock: FakeClock) -> None:
    jobs.submit("k", {})
    clock.now += 5
    job = jobs.claim("worker-1", 30)
    assert job is not None
    assert job.started_at == clock.now
    jobs.progress(job, {"step": 1})
    failed = jobs.fail(job, "no rows", {"code": "invalid_training_file", "param": "training_file"})
    assert failed.result == {"code": "invalid_training_file", "param": "training_file"}
    told = [(event.n, type(event.ops[0]).__name__) for event in jobs.history("k")]
    assert told == [(1, "Submit"), (2, "Claim"), (3, "Renew"), (4, "Finish")]
    assert [event.n for event in jobs.history("k", after=1, before=4)] == [2, 3]
    assert [event.n for event in jobs.history("k", after=4)] == []
    assert failed.num_events == jobs.get("k").num_events == 4
    with pytest.raises(NotFound):
        jobs.history("unknown")


@pytest.mark.parametrize("key", ["", "a/b", "../a", "a b", ".a", "x" * 129])
def test_bad_keys(jobs: Jobs, key: str) -> None:
    with pytest.raises(Invalid):
        jobs.submit(key, {})


@pytest.mark.parametrize("open_again", REAL_STORES, indirect=True)
def test_each_job_is_claimed_once(store: Store) -> None:
    for number in range(5):
        Jobs(store).submit(f"job-{number}", {})

    def work(worker: int) -> list[str]:
        jobs, claimed = Jobs(store), []
        while (job := jobs.claim(f"worker-{worker}", 60)) is not None:
            claimed.append(job.key)
        return claimed

    with ThreadPoolExecutor(4) as pool:
        claimed = [key for keys in pool.map(work, range(4)) for key in keys]
    assert sorted(claimed) == [f"job-{number}" for number in range(5)]


class Workers(RuleBasedStateMachine):
    """Two workers, a clock that jumps: at most one holds the job, and a finished job stays as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.jobs = [Jobs(store, clock=self.clock) for store in [MemoryStore()] for _ in range(2)]
        self.jobs[0].submit("k", {"a": 1})
        self.held: list[Job | None] = [None, None]
        self.final: Job | None = None

    @rule(worker=st.integers(0, 1))
    def claim(self, worker: int) -> None:
        claimed = self.jobs[worker].claim(f"w{worker}", 10)
        if claimed is not None:
            assert self.final is None
            self.held[worker] = claimed
            if (other := self.held[1 - worker]) is not None and other.attempt != claimed.attempt:
                with pytest.raises(Conflict):
                    self.jobs[1 - worker].renew(other)

    @rule(worker=st.integers(0, 1), what=st.sampled_from(["renew", "progress", "succeed", "fail"]))
    def act(self, worker: int, what: str) -> None:
        job = self.held[worker]
        if job is None:
            return
        more = {"renew": (), "progress": ({"n": 1},), "succeed": ({"v": 1},), "fail": ("why",)}[what]
        current = self.jobs[0].get("k")
        if current.state == "running" and current.attempt == job.attempt:
            after = getattr(self.jobs[worker], what)(job, *more)
            if after.finished:
                self.final = after
        else:
            with pytest.raises(Conflict):
                getattr(self.jobs[worker], what)(job, *more)

    @rule(seconds=st.integers(1, 15))
    def wait(self, seconds: int) -> None:
        self.clock.now += seconds

    @invariant()
    def both_see_the_same(self) -> None:
        assert self.jobs[0].get("k") == self.jobs[1].get("k")
        if self.final is not None:
            assert self.jobs[0].get("k") == self.final


TestWorkers = Workers.TestCase
TestWorkers.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
