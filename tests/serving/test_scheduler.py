from __future__ import annotations

import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st

from serving.regions import Regions
from serving.row import NOBODY, Owner, Row
from serving.scheduler import Scheduler

from .memory import Memory


def scheduler(total: int = 1024, max_batch: int = 4, prefill_tokens: int = 32, kept: int = 0) -> Scheduler:
    return Scheduler(Regions(total), max_batch, prefill_tokens, kept)


def row(prompt: int, answer: int = 4, owner: Owner = NOBODY) -> Row:
    return Row([1] * prompt, prompt + answer, owner)


def test_a_long_prompt_is_computed_in_chunks_within_the_budget() -> None:
    planner = scheduler(prefill_tokens=32)
    memory = Memory(planner)
    planner.add(row(70))
    sizes = []
    for _ in range(3):
        step = planner.schedule()
        sizes += [(chunk.start, chunk.stop, chunk.samples) for chunk in step.chunks]
        memory.play(step)
    assert sizes == [(0, 32, False), (32, 64, False), (64, 70, True)]


def test_decode_goes_first_and_takes_from_the_prefill_budget() -> None:
    planner = scheduler(prefill_tokens=32)
    planner.add(row(8, answer=10))
    Memory(planner).play(planner.schedule())
    planner.add(row(100))
    step = planner.schedule()
    assert [(chunk.num_tokens, chunk.start) for chunk in step.chunks] == [(1, 8), (31, 0)]


def test_rows_beyond_the_batch_wait_in_order() -> None:
    planner = scheduler(max_batch=2)
    rows = [row(4) for _ in range(3)]
    for each in rows:
        planner.add(each)
    assert [chunk.row for chunk in planner.schedule().chunks] == rows[:2]
    assert list(planner.queue) == rows[2:]


def test_when_the_cache_is_full_the_youngest_starts_over_and_the_oldest_ends() -> None:
    planner = scheduler(total=192, max_batch=2, prefill_tokens=256)
    memory = Memory(planner)
    old, young = row(60, answer=60), row(60, answer=60)
    planner.add(old)
    planner.add(young)
    ended: list[Row] = []
    for _ in range(300):
        ended += memory.play(planner.schedule())
        planner.check_integrity()
    assert ended == [old, young]
    assert planner.num_preemptions > 0
    assert planner.regions.used == 0


def test_a_row_whose_growth_fits_only_where_it_stands_starts_over_and_ends() -> None:
    planner = scheduler(total=256, max_batch=2, prefill_tokens=256, kept=256)
    memory = Memory(planner)
    planner.add(row(60, answer=190))
    ended: list[Row] = []
    for _ in range(220):
        ended += memory.play(planner.schedule())
        planner.check_integrity()
    assert len(ended) == 1


def test_who_pays_for_room_is_the_tenant_charged_most() -> None:
    planner = scheduler(total=1024, max_batch=4, prefill_tokens=512)
    memory = Memory(planner)
    eldest = row(60, 250, Owner("a"))
    greedy = [row(60, 250, Owner("b")) for _ in range(2)]
    modest = row(60, 250, Owner("c"))
    for each in (eldest, *greedy, modest):
        planner.add(each)
    for _ in range(250):
        if planner.num_preemptions:
            break
        memory.play(planner.schedule())
    assert set(greedy) <= set(planner.queue), "the tenant with two rows was charged most and makes room first"
    assert eldest in planner.running


def test_a_tenant_without_a_seat_gets_one_from_who_has_several() -> None:
    planner = scheduler(total=4096, max_batch=3, prefill_tokens=64)
    memory = Memory(planner)
    for _ in range(12):
        planner.add(row(10, 400, Owner("flood")))
    memory.play(planner.schedule())
    newcomer = row(10, 20, Owner("newcomer"))
    planner.add(newcomer)
    for _ in range(3):
        memory.play(planner.schedule())
    assert newcomer in planner.running
    assert planner.num_preemptions == 1
    planner.check_integrity()


def test_a_tenant_with_one_seat_keeps_it() -> None:
    planner = scheduler(total=4096, max_batch=2, prefill_tokens=64)
    memory = Memory(planner)
    rows = [row(10, 50, Owner(name)) for name in ("a", "b", "c")]
    for each in rows:
        planner.add(each)
        memory.play(planner.schedule())
    for _ in range(10):
        memory.play(planner.schedule())
    assert planner.num_preemptions == 0
    assert planner.running == rows[:2]


Arrival = tuple[int, int, int, int | None, Owner, int]
arrival = st.tuples(
    st.integers(1, 150),  # prompt
    st.integers(1, 100),  # answer
    st.integers(0, 20),  # step of arrival
    st.sampled_from([None, None, 1, 5, 30]),  # steps until it is cancelled
    st.sampled_from([Owner("a", "x"), Owner("a", "y"), Owner("b", "x"), Owner("c")]),
    st.integers(0, 3),  # where its tokens begin to differ: 0, 40, 80, 120
)


@settings(max_examples=120, deadline=None)
@given(
    total=st.sampled_from([256, 512, 960, 4096]),
    max_batch=st.integers(1, 6),
    prefill_tokens=st.integers(1, 200),
    kept=st.sampled_from([0, 128, 4096]),
    arrivals=st.lists(arrival, min_size=1, max_size=14),
)
def test_every_row_ends_and_every_position_holds_what_it_should(
    total: int,
    max_batch: int,
    prefill_tokens: int,
    kept: int,
    arrivals: list[tuple[int, int, int, int | None, Owner, int]],
) -> None:
    planner = scheduler(total, max_batch, prefill_tokens, kept)
    memory = Memory(planner)
    pending = []
    for number, (prompt, answer, at, cancelled, owner, common) in enumerate(arrivals):
        tokens = ([1] * (40 * common) + [10 + number] * prompt)[:prompt]
        pending.append((at, None if cancelled is None else at + cancelled, Row(tokens, prompt + answer, owner)))
    ended: set[Row] = set()
    aborted: set[Row] = set()
    for now in range(20_000):
        for at, until, each in pending:
            if at == now:
                planner.add(each)
            if until == now and each not in ended:
                planner.remove(each)
                aborted.add(each)
        step = planner.schedule()
        assert sum(chunk.num_tokens for chunk in step.chunks if chunk.num_tokens > 1) <= prefill_tokens
        assert len({chunk.row for chunk in step.chunks}) == len(step.chunks) <= max_batch
        ended.update(memory.play(step))
        planner.check_integrity()
        if len(ended) + len(aborted) == len(arrivals):
            break
    assert len(ended) + len(aborted) == len(arrivals)
    assert planner.regions.used == 0
    assert planner.regions.cached <= kept


def test_the_scheduler_needs_no_torch() -> None:
    code = "import serving.scheduler, serving.request, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
