from hypothesis import given
from hypothesis import strategies as st

from trainer.plan import micro_batches, plan, steps_of_epoch
from trainer.spec import Train

lengths_of = st.lists(st.integers(2, 300), min_size=1, max_size=120)


@given(lengths=lengths_of, budget=st.integers(16, 600), seed=st.integers(0, 3))
def test_an_epoch_visits_every_row_once_within_the_budget(lengths: list[int], budget: int, seed: int) -> None:
    steps = steps_of_epoch(lengths, budget, seed, 0)
    assert sorted(row for step in steps for row in step) == list(range(len(lengths)))
    assert all(len(step) == 1 or sum(lengths[row] for row in step) <= budget for step in steps)
    assert steps == steps_of_epoch(lengths, budget, seed, 0)


@given(lengths=lengths_of, most=st.integers(300, 2000))
def test_micro_batches_bound_padded_tokens(lengths: list[int], most: int) -> None:
    batches = micro_batches(range(len(lengths)), lengths, most)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or max(lengths[row] for row in batch) * len(batch) <= most for batch in batches)


def test_pools_keep_padding_low() -> None:
    lengths = [40 + (7 * i) % 160 for i in range(800)]
    steps = steps_of_epoch(lengths, 1024, 0, 0)
    padded = sum(max(lengths[row] for row in step) * len(step) for step in steps)
    assert padded < 1.12 * sum(lengths)


def test_the_whole_plan_differs_by_epoch_and_ends_where_told() -> None:
    train = Train(epochs=3, tokens_per_step=64)
    whole = plan([20] * 30, train, seed=1)
    assert len(whole) == 30
    assert whole[:10] != whole[10:20]
    assert plan([20] * 30, Train(epochs=3, tokens_per_step=64, steps=7), seed=1) == whole[:7]
