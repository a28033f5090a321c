"""The quick forward is PEFT's forward: same loss, same gradients."""

from typing import Any

import peft
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from registry.errors import Refused
from trainer.forward import Layer, LowRankLinear, StepContext, Trainee, lane_attention, make_batch
from trainer.rendering import TokenRow
from trainer.spec import Method

ROWS = [
    TokenRow(tuple(range(5, 25)), (17, 18, 19)),
    TokenRow(tuple(range(40, 52)), (3, 10, 11)),
    TokenRow(tuple(range(7, 37)), (29,)),
]


def trainee(base: Any, **method: Any) -> Trainee:
    made = Trainee(base.module_tree(), Method(**({"r": 4, "alpha": 8, "dropout": 0.0} | method)), seed=1)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in made.parameters.values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return made


def plain_loss(base: Any, made: Trainee) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """PEFT's own layers, one row at a time, all logits."""
    model = peft.get_peft_model(base.module_tree(), made.config)
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(made.parameters[name])
    total = torch.zeros(())
    for row in ROWS:
        logits = model(torch.tensor([row.tokens])).logits[0]
        at = torch.tensor(row.supervised)
        total = total + F.cross_entropy(logits[at - 1], torch.tensor(row.tokens)[at], reduction="sum")
    total.backward()
    return total.detach(), {name: p.grad for name, p in parameters.items() if p.grad is not None}


def test_loss_and_gradients_equal_pefts(tiny_base: Any) -> None:
    made = trainee(tiny_base)
    loss = made.loss(make_batch(ROWS, torch.device("cpu")), train=True)
    loss.backward()
    expected, gradients = plain_loss(tiny_base, made)
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-5)
    assert set(gradients) == set(made.parameters)
    for name, gradient in gradients.items():
        torch.testing.assert_close(made.parameters[name].grad, gradient, rtol=1e-4, atol=1e-5)


def test_dropout_drops_inputs_of_the_pair_only_the_same_along_a_row() -> None:
    torch.manual_seed(0)
    linear, a, b = nn.Linear(6, 5), torch.randn(3, 6, requires_grad=True), torch.randn(5, 3, requires_grad=True)
    x = torch.randn(1, 8, 6, requires_grad=True)
    context = StepContext(rows=2, dropout=0.5, generator=torch.Generator().manual_seed(4))
    keep = torch.empty(2, 1, 6).bernoulli_(0.5, generator=torch.Generator().manual_seed(4)) / 0.5
    expected = linear(x) + 2.0 * ((x.view(2, 4, 6) * keep).view(1, 8, 6) @ a.t() @ b.t())
    wanted = torch.autograd.grad(expected.square().sum(), (x, a, b))
    y = LowRankLinear.apply(x, a, b, Layer(linear, 2.0, context))
    torch.testing.assert_close(y, expected)
    for found, gradient in zip(torch.autograd.grad(y.square().sum(), (x, a, b)), wanted, strict=True):
        torch.testing.assert_close(found, gradient)


def test_dropout_comes_from_the_lanes_own_generator(tiny_base: Any) -> None:
    batch = make_batch(ROWS, torch.device("cpu"))
    made, again = trainee(tiny_base, dropout=0.3), trainee(tiny_base, dropout=0.3)
    torch.manual_seed(99)
    with torch.no_grad():
        first, second = float(made.loss(batch, train=True)), float(made.loss(batch, train=True))
        assert first != second
        assert float(again.loss(batch, train=True)) == first
        assert float(made.loss(batch, train=False)) == float(again.loss(batch, train=False))


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("longest", [1024, 4])
def test_attention_stays_inside_a_row(window: int | None, longest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.forward.MATERIALISE_UP_TO", longest)
    torch.manual_seed(1)
    q, k, v = torch.randn(1, 6, 20, 8), torch.randn(1, 2, 20, 8), torch.randn(1, 2, 20, 8)
    out, _ = lane_attention(nn.Identity(), q, k, v, None, lane_rows=2, sliding_window=window)
    behind = torch.arange(10)[:, None] - torch.arange(10)[None, :]
    mask = (behind >= 0) & (behind < (window or 99))
    for row in range(2):
        part = slice(10 * row, 10 * row + 10)
        keys, values = (t[:, :, part].repeat_interleave(3, dim=1) for t in (k, v))
        expected = F.scaled_dot_product_attention(q[:, :, part], keys, values, attn_mask=mask)
        torch.testing.assert_close(out[:, part], expected.transpose(1, 2), rtol=1e-4, atol=1e-5)


def test_targets_that_match_nothing_are_refused(tiny_base: Any) -> None:
    with pytest.raises(Refused, match=r"method.targets: Target modules"):
        Trainee(tiny_base.module_tree(), Method(targets=("no_such_proj",)), seed=0)


def test_the_base_is_untouched(tiny_base: Any) -> None:
    made = trainee(tiny_base)
    made.loss(make_batch(ROWS, torch.device("cpu")), train=True).backward()
    tiny_base.check_integrity()
    assert all(not name.startswith("base_layer") for name in made.parameters)
