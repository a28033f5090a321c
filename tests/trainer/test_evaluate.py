from __future__ import annotations

from typing import Any

import pytest
import torch

from registry.errors import Corrupt
from serving.adapter import LoadedAdapter
from serving.request import Completion, Usage
from trainer.dataset import Example, Verbaliser
from trainer.evaluate import Evaluator, answered
from trainer.rendering import render_row
from trainer.rows import Message


def example(prompt: str, answer: str, label: str | None = None) -> Example:
    return Example((Message("user", prompt), Message("assistant", answer)), label)


def test_likelihood_through_the_engine_is_the_trees(tiny_base: Any, engine: Any) -> None:
    rows = [example("hello", "a longer answer"), example("bye", "b")]
    measured = Evaluator(tiny_base, engine, None).measure({"test": rows}, {"candidate": None})
    total, count = 0.0, 0
    for row in rows:
        tokens = render_row(tiny_base, row)
        with torch.no_grad():
            logprobs = tiny_base.module_tree()(torch.tensor([tokens.tokens])).logits[0].log_softmax(-1)
        total -= sum(float(logprobs[at - 1, tokens.tokens[at]]) for at in tokens.supervised)
        count += len(tokens.supervised)
    assert measured.candidate["test/nll"].value == pytest.approx(total / count, rel=1e-4)


def test_roles_share_batches_and_are_told_apart(tiny_base: Any, engine: Any, make_adapter: Any) -> None:
    adapter = LoadedAdapter.from_directory(make_adapter(4, seed=5), tiny_base)
    rows = [example(f"row {i}", "x") for i in range(8)]
    engine.reset_peak()
    measured = Evaluator(tiny_base, engine, None).measure(
        {"test": rows, "new": rows[:3]}, {"candidate": adapter, "base": None}
    )
    assert measured.parent is None
    assert measured.base is not None
    assert measured.candidate["test/nll"] != measured.base["test/nll"]
    assert (measured.candidate["test/nll"].n, measured.candidate["new/nll"].n) == (8, 3)


def test_labels_are_generated_and_read(tiny_base: Any, engine: Any) -> None:
    rows = [example("a", "yes", "yes"), example("b", "no", "no")]
    verbaliser = Verbaliser({"yes": "yes", "no": "no"})
    measured = Evaluator(tiny_base, engine, verbaliser).measure({"test": rows}, {"candidate": None})
    assert set(measured.candidate) == {"test/accuracy", "test/precision", "test/recall", "test/f1"}


def test_a_row_that_failed_fails_the_measurement() -> None:
    broken = Completion((), "", "error", Usage(1, 0), error=Corrupt("the adapter gave NaN"))
    with pytest.raises(Corrupt, match="gave NaN"):
        answered([broken])
