import pytest
import torch
from torch import nn

from registry.errors import Corrupt
from trainer.parameters import AdamW, FlatParameters, learning_rate
from trainer.spec import Train


def pair(dtype: torch.dtype = torch.float32) -> dict[str, nn.Parameter]:
    torch.manual_seed(2)
    return {"a": nn.Parameter(torch.randn(3, 4).to(dtype)), "b": nn.Parameter(torch.randn(5).to(dtype))}


def test_adamw_is_torchs() -> None:
    ours, theirs = pair(), pair()
    train = Train(weight_decay=0.1, clip=0.5)
    flat = FlatParameters(ours)
    optimiser = AdamW(flat, train)
    reference = torch.optim.AdamW(theirs.values(), lr=0.05, weight_decay=0.1)
    for step in range(20):
        for parameters in (ours, theirs):
            ((parameters["a"].sum() - step) ** 2 + (parameters["b"] ** 3).sum()).backward()
        norm = nn.utils.clip_grad_norm_(theirs.values(), 0.5)
        reference.step()
        reference.zero_grad()
        assert optimiser.step(flat.take_gradients(), 0.05) == pytest.approx(float(norm), rel=1e-5)
    for name, parameter in theirs.items():
        torch.testing.assert_close(ours[name].data, parameter.data)


def test_small_steps_are_not_lost_to_bfloat16() -> None:
    parameters = pair(torch.bfloat16)
    flat = FlatParameters(parameters)
    before = flat.master.clone()
    optimiser = AdamW(flat, Train(weight_decay=0.0))
    for _ in range(50):
        optimiser.step(torch.ones_like(flat.master), 1e-4)
    moved = before - flat.master
    torch.testing.assert_close(moved, torch.full_like(moved, 50e-4), rtol=1e-2, atol=1e-6)
    torch.testing.assert_close(parameters["a"].data.float(), flat.named()["a"], rtol=1e-2, atol=1e-2)


def test_gradients_are_taken_once() -> None:
    parameters = pair()
    flat = FlatParameters(parameters)
    parameters["b"].sum().backward()
    assert float(flat.take_gradients().sum()) == 5.0
    assert float(flat.take_gradients().sum()) == 0.0


def test_a_broken_gradient_stops_the_training() -> None:
    flat = FlatParameters(pair())
    with pytest.raises(Corrupt, match="not finite"):
        AdamW(flat, Train()).step(torch.full_like(flat.master, float("nan")), 0.1)


def test_starting_tensors_must_fit() -> None:
    flat = FlatParameters(pair())
    flat.set_named({"a": torch.ones(3, 4), "b": torch.zeros(5)})
    assert float(flat.master.sum()) == 12.0
    with pytest.raises(Corrupt, match="no tensor b"):
        flat.set_named({"a": torch.ones(3, 4), "b": torch.zeros(6)})


def test_the_rate_warms_up_and_fades() -> None:
    train = Train(lr=1.0, warmup=0.1)
    rates = [learning_rate(train, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates[99] < 0.001
