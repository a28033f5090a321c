from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serving.prefix import PrefixCache, common
from serving.regions import Regions
from serving.row import MARK, Owner, Row
from serving.scheduler import Scheduler

from .memory import Memory

A, B = Owner("a", "sha256:1"), Owner("b", "sha256:1")


def row(tokens: list[int], answer: int = 4, owner: Owner = A) -> Row:
    return Row(tokens, len(tokens) + answer, owner)


def numbers(count: int, start: int = 100) -> list[int]:
    return list(range(start, start + count))


def finish(memory: Memory, *rows: Row) -> None:
    planner = memory.planner
    for each in rows:
        planner.add(each)
    while planner.has_work:
        memory.play(planner.schedule())
        planner.check_integrity()


def kept(cache: PrefixCache, regions: Regions, tokens: list[int], owner: Owner = A) -> Row:
    """A row that computed these tokens and is gone."""
    region = regions.allocate(len(tokens))
    assert region is not None
    each = Row(tokens, len(tokens), owner, num_computed=len(tokens), region=region)
    cache.retain(each)
    return each


@given(ours=st.lists(st.integers(0, 1), max_size=100), theirs=st.lists(st.integers(0, 1), max_size=100))
def test_the_common_beginning_is_exact(ours: list[int], theirs: list[int]) -> None:
    length = common(ours, theirs)
    assert ours[:length] == theirs[:length]
    assert length == min(len(ours), len(theirs)) or ours[length] != theirs[length]


def test_the_longest_kept_prefix_is_found() -> None:
    regions = Regions(1024)
    cache = PrefixCache(regions, 1024)
    kept(cache, regions, numbers(40))
    kept(cache, regions, [*numbers(70), 5, 5])
    found, length = cache.best(row([*numbers(90), 7]))
    assert found is not None
    assert length == 70
    assert cache.best(row(numbers(90, start=101))) == (None, 0)


def test_another_tenant_or_digest_finds_nothing() -> None:
    regions = Regions(1024)
    cache = PrefixCache(regions, 1024)
    kept(cache, regions, numbers(80))
    for owner in (B, Owner("a", "sha256:2"), Owner("a")):
        assert cache.best(row(numbers(80), owner=owner)) == (None, 0)


def test_an_allocation_takes_back_only_what_it_needs_and_what_was_unused_longest() -> None:
    regions = Regions(512)
    cache = PrefixCache(regions, 512)
    for start in range(8):
        kept(cache, regions, numbers(64, start=1000 * start))
    cache.best(row(numbers(64, start=0)))  # used just now, and its buddy is not
    region = cache.allocate(128)
    assert region is not None
    assert (region.start, len(cache)) == (128, 6)
    cache.check_integrity()
    assert cache.allocate(512) is None
    assert len(cache) == 6, "nothing goes in vain"


def test_what_is_kept_stays_within_its_limit() -> None:
    regions = Regions(1024)
    cache = PrefixCache(regions, 256)
    for start in range(10):
        kept(cache, regions, numbers(100, start=1000 * start))
        assert regions.cached <= 256
        cache.check_integrity()
    assert cache.best(row(numbers(100, start=9000)))[1] == 100
    assert cache.best(row(numbers(100, start=0)))[1] == 0
    kept(cache, regions, numbers(300))
    assert regions.cached == 256, "what is larger than the limit is not kept"


def test_a_second_turn_computes_only_what_is_new() -> None:
    planner = Scheduler(Regions(4096), 4, 64, 4096)
    memory = Memory(planner)
    first = row(numbers(100), answer=20)
    finish(memory, first)
    second = row([*first.tokens, *numbers(10, start=5000)])
    finish(memory, second)
    assert planner.num_prefix_hits == 1
    assert planner.num_tokens_reused == len(first.tokens) - 1, "the last sampled token was never computed"
    assert planner.regions.used == 0


def test_rows_wait_for_a_mate_that_computes_their_prefix() -> None:
    planner = Scheduler(Regions(4096), 8, 64, 4096)
    memory = Memory(planner)
    rows = [row(numbers(200)) for _ in range(5)]
    for each in rows:
        planner.add(each)
    computed = 0
    while planner.has_work:
        step = planner.schedule()
        computed += sum(chunk.num_tokens for chunk in step.chunks)
        memory.play(step)
        planner.check_integrity()
    assert planner.num_tokens_reused == 4 * 192, "the last eight are not worth another step of waiting"
    assert computed == 200 + 4 * 8 + 5 * 3


def test_rows_with_little_in_common_do_not_wait() -> None:
    planner = Scheduler(Regions(4096), 8, 512, 4096)
    for start in range(3):
        planner.add(row([*numbers(20), *numbers(60, start=1000 * (start + 1))]))
    assert len(planner.schedule().chunks) == 3


def test_a_row_that_waits_for_a_mate_lets_others_pass() -> None:
    planner = Scheduler(Regions(4096), 8, 64, 4096)
    first, second, other = row(numbers(100)), row(numbers(100)), row(numbers(10, start=900))
    for each in (first, second, other):
        planner.add(each)
    Memory(planner).play(planner.schedule())
    step = planner.schedule()
    assert [chunk.row for chunk in step.chunks] == [first, other]


def test_a_mate_that_goes_away_is_not_waited_for() -> None:
    planner = Scheduler(Regions(4096), 8, 64, 4096)
    memory = Memory(planner)
    first, second = row(numbers(200)), row(numbers(200))
    planner.add(first)
    planner.add(second)
    memory.play(planner.schedule())
    planner.remove(first, keep=False)
    step = planner.schedule()
    assert [(chunk.row, chunk.start) for chunk in step.chunks] == [(second, 0)]
    memory.play(step)


def test_a_preempted_row_goes_on_where_it_was_if_there_is_room() -> None:
    planner = Scheduler(Regions(4096), 2, 64, 4096)
    memory = Memory(planner)
    rows = [row(numbers(40, start=1000 * n), 60) for n in range(2)]
    for each in rows:
        planner.add(each)
    for _ in range(20):
        memory.play(planner.schedule())
    modest = row(numbers(10), 2, B)
    planner.add(modest)
    computed = 0
    while planner.has_work:
        step = planner.schedule()
        computed += sum(chunk.num_tokens for chunk in step.chunks)
        memory.play(step)
    assert planner.num_preemptions == 1
    assert planner.num_prefix_hits == 1
    assert planner.num_tokens_reused >= 40


def test_what_a_failed_row_computed_is_never_reused() -> None:
    planner = Scheduler(Regions(1024), 2, 512, 1024)
    failing = row(numbers(100))
    planner.add(failing)
    Memory(planner).play(planner.schedule())
    planner.remove(failing, keep=False)
    assert len(planner.cache) == 0
    finish(Memory(planner), row(numbers(100)))
    assert planner.num_tokens_reused == 0


class Marking(Row):
    """A row that must go on from a mark, as one whose hidden states are summed up."""

    @property
    def leaves_marks(self) -> bool:
        return True

    def reusable(self, length: int, num_marks: int) -> int:
        return min(super().reusable(length, num_marks) // MARK, num_marks) * MARK


def test_who_needs_marks_reuses_up_to_the_last_one() -> None:
    planner = Scheduler(Regions(4096), 4, 512, 4096)
    memory = Memory(planner)
    finish(memory, row(numbers(150)), Marking(numbers(150), 154, A))
    assert planner.num_tokens_reused == 0, "nobody has left marks yet"
    planner.cache.clear()
    first = Marking(numbers(150), 154, A)
    planner.add(first)
    memory.play(planner.schedule())
    first.marks = ["one", "two"]
    second = Marking(numbers(150), 154, A)
    planner.add(second)
    step = planner.schedule()
    assert [(chunk.row, chunk.start) for chunk in step.chunks] == [(first, 150), (second, 2 * MARK)]
    assert second.marks == ["one", "two"]
