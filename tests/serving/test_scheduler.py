from __future__ import annotations

import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st

from serving.regions import Regions
from serving.scheduler import Row, Scheduler, Step


def scheduler(total: int = 1024, max_batch: int = 4, prefill_tokens: int = 32) -> Scheduler:
    return Scheduler(Regions(total), max_batch, prefill_tokens)


def row(prompt: int, answer: int = 4) -> Row:
    return Row([1] * prompt, prompt + answer)


def play(planner: Scheduler, step: Step) -> list[Row]:
    """What the engine does with a step: advance, sample, retire. Returns the rows that ended."""
    ended = []
    for chunk in step.chunks:
        samples = chunk.samples
        planner.advance(chunk)
        if samples:
            chunk.row.tokens.append(2)
            if len(chunk.row.tokens) >= chunk.row.max_length:
                planner.remove(chunk.row)
                ended.append(chunk.row)
    return ended


def test_a_long_prompt_is_computed_in_chunks_within_the_budget() -> None:
    planner = scheduler(prefill_tokens=32)
    planner.add(row(70))
    sizes = []
    for _ in range(3):
        step = planner.schedule()
        sizes += [(chunk.start, chunk.stop, chunk.samples) for chunk in step.chunks]
        play(planner, step)
    assert sizes == [(0, 32, False), (32, 64, False), (64, 70, True)]


def test_decode_goes_first_and_takes_from_the_prefill_budget() -> None:
    planner = scheduler(prefill_tokens=32)
    planner.add(row(8, answer=10))
    play(planner, planner.schedule())
    planner.add(row(100))
    step = planner.schedule()
    assert [(chunk.num_tokens, chunk.start) for chunk in step.chunks] == [(1, 8), (31, 0)]


def test_rows_beyond_the_batch_wait_in_order() -> None:
    planner = scheduler(max_batch=2)
    rows = [row(4) for _ in range(3)]
    for each in rows:
        planner.add(each)
    assert [chunk.row for chunk in planner.schedule().chunks] == rows[:2]
    assert list(planner.waiting) == rows[2:]


def test_when_the_cache_is_full_the_youngest_starts_over_and_the_oldest_ends() -> None:
    planner = scheduler(total=192, max_batch=2, prefill_tokens=256)
    old, young = row(60, answer=60), row(60, answer=60)
    planner.add(old)
    planner.add(young)
    ended: list[Row] = []
    for _ in range(300):
        ended += play(planner, planner.schedule())
        planner.check_integrity()
    assert ended == [old, young]
    assert planner.num_preemptions > 0
    assert planner.regions.used == 0


@settings(max_examples=60, deadline=None)
@given(
    total=st.sampled_from([256, 512, 960, 4096]),
    max_batch=st.integers(1, 6),
    prefill_tokens=st.integers(1, 200),
    arrivals=st.lists(
        st.tuples(st.integers(1, 150), st.integers(1, 100), st.integers(0, 20), st.booleans()), min_size=1, max_size=12
    ),
)
def test_every_row_ends_and_the_cache_never_overflows(
    total: int, max_batch: int, prefill_tokens: int, arrivals: list[tuple[int, int, int, bool]]
) -> None:
    planner = scheduler(total, max_batch, prefill_tokens)
    pending = [(at, row(prompt, answer), aborts) for prompt, answer, at, aborts in arrivals]
    ended: set[Row] = set()
    aborted: set[Row] = set()
    for now in range(20_000):
        for at, each, aborts in pending:
            if at == now:
                planner.add(each)
            if aborts and now == at + 5 and each not in ended:
                planner.remove(each)
                aborted.add(each)
        step = planner.schedule()
        prefill = sum(chunk.num_tokens for chunk in step.chunks if chunk.num_tokens > 1)
        assert prefill <= prefill_tokens
        assert all(chunk.row.region and chunk.stop <= chunk.row.region.capacity for chunk in step.chunks)
        ended.update(play(planner, step))
        planner.check_integrity()
        if len(ended) + len(aborted) == len(arrivals):
            break
    assert len(ended) + len(aborted) == len(arrivals)
    assert planner.regions.used == 0


def test_the_scheduler_needs_no_torch() -> None:
    code = "import serving.scheduler, serving.request, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
