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


def test_a_cached_region_is_neither_used_nor_free() -> None:
    regions = Regions(128)
    first, second = regions.allocate(64), regions.allocate(64)
    assert first is not None
    assert second is not None
    regions.retain(first)
    assert (regions.used, regions.cached) == (64, 64)
    assert regions.allocate(64) is None
    regions.check_integrity()
    regions.revive(first)
    regions.release(first)
    assert (regions.used, regions.cached) == (64, 0)
    assert regions.allocate(64) == first


@given(
    total=st.integers(0, 5000),
    lengths=st.lists(st.tuples(st.integers(1, 2000), st.sampled_from(["hold", "release", "retain", "revive"]))),
)
def test_accounting_is_exact_whatever_comes_and_goes(total: int, lengths: list[tuple[int, str]]) -> None:
    regions = Regions(total)
    held: list[Region] = []
    kept: list[Region] = []
    for length, then in lengths:
        region = regions.allocate(length)
        if region is not None:
            assert region.capacity == capacity_for(length)
            held.append(region)
        if then == "release" and held:
            regions.release(held.pop(len(held) // 2))
        elif then == "retain" and held:
            kept.append(held.pop(len(held) // 2))
            regions.retain(kept[-1])
        elif then == "revive" and kept:
            held.append(kept.pop(len(kept) // 2))
            regions.revive(held[-1])
        regions.check_integrity()
        assert regions.used == sum(region.capacity for region in held)
        assert regions.cached == sum(region.capacity for region in kept)
        assert regions.used + regions.cached <= regions.total
    for region in kept:
        regions.revive(region)
    for region in [*held, *kept]:
        regions.release(region)
    regions.check_integrity()
    assert regions.used == regions.cached == 0
    if regions.total:
        assert regions.allocate(regions.largest) is not None
    assert regions.total % SMALLEST == 0
