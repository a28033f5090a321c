from typing import Any

import pytest
import torch

from registry.errors import Corrupt
from trainer import plan
from trainer.dataset import Example
from trainer.lane import Lane
from trainer.rendering import TokenRow, render_rows
from trainer.rows import Message
from trainer.spec import EarlyStop, Method, Train


def rows(base: Any, count: int = 24, start: int = 0) -> tuple[TokenRow, ...]:
    examples = [
        Example((Message("user", f"number {i}"), Message("assistant", "even" if i % 2 == 0 else "odd")))
        for i in range(start, start + count)
    ]
    return render_rows(base, examples, 200).rows


def lane(base: Any, seed: int = 0, **train: Any) -> Lane:
    options: dict[str, Any] = {"lr": 1e-2, "epochs": 2, "tokens_per_step": 200} | train
    return Lane(
        base.module_tree(),
        Method(r=4, alpha=8, dropout=0.1),
        Train(**options),
        rows(base),
        rows(base, 6, 100),
        seed=seed,
    )


def finish(made: Lane) -> Lane:
    while not made.finished:
        made.step()
    return made


def test_loss_falls_and_is_measured_per_supervised_token(tiny_base: Any) -> None:
    made = lane(tiny_base, epochs=6, early_stop=None)
    first = made.step()
    assert first.total == made.total_steps
    losses = finish(made).progress.losses
    assert losses[-1] < 0.5 * losses[0]
    assert len(losses) == made.total_steps
    assert made.progress.tokens > 0


def test_the_same_seed_gives_the_same_adapter(tiny_base: Any) -> None:
    first, second, other = (finish(lane(tiny_base, seed)) for seed in (0, 0, 1))
    assert first.progress == second.progress
    for name, tensor in first.learned().items():
        assert torch.equal(tensor, second.learned()[name])
    assert first.progress.losses != other.progress.losses


@pytest.mark.parametrize("at", [1, 4, 7])
def test_a_restored_lane_goes_on_exactly(tiny_base: Any, at: int) -> None:
    early_stop = EarlyStop(every=3, patience=9)
    whole = finish(lane(tiny_base, early_stop=early_stop))
    half = lane(tiny_base, early_stop=early_stop)
    for _ in range(at):
        half.step()
    vectors, numbers = half.state()
    saved = {name: tensor.clone() for name, tensor in vectors.items()}
    resumed = lane(tiny_base, early_stop=early_stop)
    resumed.restore(saved, numbers)
    finish(resumed)
    assert resumed.progress == whole.progress
    for name, tensor in whole.learned().items():
        assert torch.equal(tensor, resumed.learned()[name])


def test_it_stops_early_and_keeps_the_best(tiny_base: Any) -> None:
    made = lane(tiny_base, lr=3.0, epochs=20, early_stop=EarlyStop(every=1, patience=3))
    finish(made)
    state = made.progress
    assert state.stopped
    assert state.steps < made.total_steps
    assert state.steps - state.best_step == 3
    assert state.best_loss == min(state.validations.values())
    made.parameters.set(made.best)
    assert made.validate() == pytest.approx(state.best_loss)


def test_a_step_cut_into_micro_batches_is_the_same_step(tiny_base: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def first_step() -> tuple[float, float]:
        made = Lane(
            tiny_base.module_tree(),
            Method(r=4, alpha=8, dropout=0.0),
            Train(tokens_per_step=600, early_stop=None),
            rows(tiny_base),
            (),
        )
        told = made.step()
        return told.loss, told.gradient_norm

    whole = first_step()
    monkeypatch.setattr(plan, "MICRO_TOKENS", 60)
    assert first_step() == pytest.approx(whole, rel=1e-4)


def test_a_checkpoint_of_another_shape_is_corrupt(tiny_base: Any) -> None:
    vectors, numbers = lane(tiny_base).state()
    with pytest.raises(Corrupt, match="another adapter shape"):
        lane(tiny_base).restore({**vectors, "master": torch.zeros(3)}, numbers)
