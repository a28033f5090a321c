import math

import pytest

from trainer.metrics import classification, likelihood


def test_classification_by_hand() -> None:
    found = classification(["a", "a", "a", "b"], ["a", "a", None, "a"])
    assert found["accuracy"].value == 0.5
    assert found["precision"].value == pytest.approx((2 / 3 + 0) / 2)
    assert found["recall"].value == pytest.approx((2 / 3 + 0) / 2)
    assert found["f1"].value == pytest.approx((2 / 3 + 0) / 2)
    assert found["accuracy"].n == 4


def test_intervals_hold_the_value_and_shrink_with_rows() -> None:
    few = classification(["a", "b"] * 20, ["a", "a"] * 20)["accuracy"]
    many = classification(["a", "b"] * 200, ["a", "a"] * 200)["accuracy"]
    for metric in (few, many):
        assert metric.low is not None
        assert metric.high is not None
        assert metric.low <= 0.5 <= metric.high
    assert (many.high or 0) - (many.low or 0) < (few.high or 0) - (few.low or 0)


def test_likelihood_weighs_tokens_not_rows() -> None:
    found = likelihood([(-1.0, -1.0, -1.0), (-5.0,)])
    assert found["nll"].value == pytest.approx(2.0)
    assert found["perplexity"].value == pytest.approx(math.exp(2.0))


def test_a_number_that_is_none_is_none() -> None:
    assert likelihood([(math.nan,)])["nll"].value is None
    assert likelihood([])["nll"].value is None
    assert classification([], [])["accuracy"].value is None
