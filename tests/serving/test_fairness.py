from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from serving.fairness import WEIGHT, Counters, FairQueue
from serving.regions import Regions
from serving.row import NOBODY, Owner, Row
from serving.scheduler import Scheduler

from .memory import Memory


def row(prompt: int = 10, answer: int = 4, owner: Owner = NOBODY) -> Row:
    return Row([1] * prompt, prompt + answer, owner)


def cost(row: Row) -> float:
    """The most that one row can ever be charged."""
    return row.prompt_end + WEIGHT * (row.max_length - row.prompt_end)


def test_the_least_charged_tenant_is_next_and_within_it_the_least_charged_adapter() -> None:
    queue = FairQueue()
    rows = {name: row(owner=Owner(*name)) for name in (("a", "x"), ("a", "y"), ("b", "x"))}
    for each in rows.values():
        queue.add(each)
    queue.tenants.charge("a", 5)
    assert next(iter(queue)) is rows["b", "x"]
    queue.tenants.charge("b", 9)
    queue.adapters("a").charge("x", 1)
    assert [each.owner for each in queue] == [("a", "y"), ("a", "x"), ("b", "x")]


def test_a_position_is_charged_once_whatever_happens_to_the_row() -> None:
    queue, each = FairQueue(), row(prompt=10, answer=5, owner=Owner("a"))
    queue.charge(each, 8)
    queue.charge(each, 12)
    assert queue.tenants["a"] == 10 + WEIGHT * 2
    queue.charge(each, 12)  # once more after preemption
    assert queue.tenants["a"] == 10 + WEIGHT * 2
    each.resume(14, ())  # somebody else has computed two more
    queue.charge(each, 15)
    assert queue.tenants["a"] == 10 + WEIGHT * 3


def test_who_comes_back_starts_at_the_level_of_those_who_wait() -> None:
    counters = Counters()
    for name in ("a", "b"):
        counters.enter(name)
    counters.charge("a", 100)
    counters.charge("b", 70)
    counters.enter("late")
    assert counters["late"] == 70


def test_who_comes_when_nobody_waits_starts_at_the_level_of_the_last_to_leave() -> None:
    counters = Counters()
    counters.enter("a")
    counters.leave("a")
    counters.charge("a", 50)
    counters.enter("b")
    assert counters["b"] == 50


def test_a_preempted_row_goes_before_younger_ones_of_its_owner() -> None:
    queue = FairQueue()
    first, second = row(), row()
    queue.add(first)
    queue.remove(first)
    queue.add(second)
    queue.add(first)
    assert list(queue) == [first, second]


def test_counters_that_no_longer_matter_are_dropped() -> None:
    counters = Counters()
    for number in range(20_000):
        counters.enter(f"t{number}")
        counters.charge(f"t{number}", 3)
        counters.leave(f"t{number}")
    assert len(counters._charged) <= 4096 + 1


Jobs = list[tuple[str, str, int, int]]
jobs = st.lists(
    st.tuples(st.sampled_from("fg"), st.sampled_from("xy"), st.integers(1, 60), st.integers(1, 30)),
    min_size=0,
    max_size=20,
)


@settings(max_examples=60, deadline=None)
@given(
    flood=st.integers(20, 120),
    shape=st.tuples(st.integers(1, 80), st.integers(1, 60)),
    others=jobs,
    max_batch=st.integers(1, 6),
    prefill_tokens=st.integers(8, 64),
    total=st.sampled_from([512, 4096]),
)
def test_two_backlogged_tenants_are_served_alike_however_much_one_sends(  # noqa: PLR0917
    flood: int, shape: tuple[int, int], others: Jobs, max_batch: int, prefill_tokens: int, total: int
) -> None:
    """The bound of `serving.fairness`: over any stretch in which both wait, service differs by less than 2 B C."""
    planner = Scheduler(Regions(total), max_batch, prefill_tokens)
    memory = Memory(planner)
    rows = [row(*shape, Owner("f", "x")) for _ in range(flood)]
    rows += [row(*shape, Owner("g", "x")) for _ in range(12)]
    rows += [row(prompt, answer, Owner(tenant, digest)) for tenant, digest, prompt, answer in others]
    for each in rows:
        planner.add(each)
    bound = 2 * max_batch * max(map(cost, rows))
    differences = [0.0]
    while {"f", "g"} <= {each.owner.tenant for each in planner.queue}:
        memory.play(planner.schedule())
        differences.append(planner.queue.tenants["f"] - planner.queue.tenants["g"])
        assert abs(differences[-1]) <= bound / 2
    assert max(differences) - min(differences) <= bound


@settings(max_examples=40, deadline=None)
@given(flood=st.integers(20, 60), max_batch=st.integers(1, 4), shape=st.tuples(st.integers(1, 40), st.integers(1, 30)))
def test_two_backlogged_adapters_of_a_tenant_are_served_alike(
    flood: int, max_batch: int, shape: tuple[int, int]
) -> None:
    planner = Scheduler(Regions(4096), max_batch, 32)
    memory = Memory(planner)
    rows = [row(*shape, Owner("t", "x")) for _ in range(flood)] + [row(*shape, Owner("t", "y")) for _ in range(8)]
    for each in rows:
        planner.add(each)
    counters = planner.queue.adapters("t")
    while {"x", "y"} <= {each.owner.digest for each in planner.queue}:
        memory.play(planner.schedule())
        assert abs(counters["x"] - counters["y"]) <= max_batch * max(map(cost, rows))


@settings(max_examples=40, deadline=None)
@given(
    max_batch=st.integers(2, 6),
    prompts=st.lists(st.integers(1, 60), min_size=1, max_size=5),
    at=st.integers(1, 80),
    prefill_tokens=st.integers(64, 256),
)
def test_a_modest_tenant_hardly_waits_behind_a_flood(
    max_batch: int, prompts: list[int], at: int, prefill_tokens: int
) -> None:
    """A tenant that has no seat and is charged least has one as soon as the prompts being computed are done."""
    planner = Scheduler(Regions(65_536), max_batch, prefill_tokens)
    memory = Memory(planner)
    for _ in range(100):
        planner.add(row(50, 1000, Owner("flood")))
    for _ in range(at):
        memory.play(planner.schedule())
    for prompt in prompts:
        newcomer = row(prompt, 3, Owner("modest"))
        planner.add(newcomer)
        waited = 0
        while newcomer.region is None:
            waited += planner.queue.tenants["modest"] < planner.queue.tenants["flood"]
            memory.play(planner.schedule())
        assert waited <= 2 + -(-50 * max_batch // prefill_tokens)
        while newcomer in planner.running:
            memory.play(planner.schedule())


@settings(max_examples=40, deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 90), st.integers(1, 90), st.sampled_from("abc")), min_size=2, max_size=16),
    total=st.sampled_from([256, 512]),
)
def test_preempted_rows_do_not_starve(shapes: list[tuple[int, int, str]], total: int) -> None:
    """The eldest row is never preempted for the sake of another, so rows keep ending, and with them all."""
    planner = Scheduler(Regions(total), 4, 64, total)
    memory = Memory(planner)
    rows = [row(prompt, answer, Owner(tenant)) for prompt, answer, tenant in shapes]
    for each in rows:
        planner.add(each)
    ended: list[Row] = []
    for _ in range(sum(each.max_length for each in rows) * 4):
        ended += memory.play(planner.schedule())
    assert set(ended) == set(rows)
