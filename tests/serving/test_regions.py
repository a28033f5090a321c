from hypothesis import given
from hypothesis import strategies as st

from serving.regions import SMALLEST, Region, Regions, capacity_for


def test_capacity_is_the_next_power_of_two() -> None:
    assert [capacity_for(length) for length in (1, 64, 65, 128, 129, 1000)] == [64, 64, 128, 128, 256, 1024]


def test_buddies_join_again() -> None:
    regions = Regions(256)
    small = [regions.allocate(64) for _ in range(4)]
    assert regions.allocate(1) is None
    for region in small:
        assert region is not None
        regions.release(region)
    assert regions.allocate(256) == Region(0, 256)


def test_odd_totals_are_covered_by_aligned_roots() -> None:
    regions = Regions(1000)
    assert regions.total == 960
    assert regions.largest == 512
    regions.check_integrity()


@given(total=st.integers(0, 5000), lengths=st.lists(st.tuples(st.integers(1, 2000), st.booleans()), max_size=60))
def test_accounting_is_exact_whatever_comes_and_goes(total: int, lengths: list[tuple[int, bool]]) -> None:
    regions = Regions(total)
    held: list[Region] = []
    for length, releases in lengths:
        region = regions.allocate(length)
        if region is not None:
            assert region.capacity == capacity_for(length)
            held.append(region)
        if releases and held:
            regions.release(held.pop(len(held) // 2))
        regions.check_integrity()
        assert regions.used == sum(region.capacity for region in held) <= regions.total
    for region in held:
        regions.release(region)
    regions.check_integrity()
    assert regions.used == 0
    if regions.total:
        assert regions.allocate(regions.largest) is not None
    assert regions.total % SMALLEST == 0
