from __future__ import annotations

import math

import pytest
import torch

from serving.finite import is_finite


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_any_infinity_or_nan_is_found_and_large_values_are_not_mistaken(dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    assert is_finite(torch.full((100, 100), largest).to(dtype)), "their sum overflows"
    assert is_finite(torch.zeros(0, 3, dtype=dtype))
    for bad in (math.inf, -math.inf, math.nan):
        values = torch.randn(64, 33).to(dtype)
        values[7, 5] = bad
        assert not is_finite(values)
    values[3, 3], values[7, 5] = math.inf, -math.inf
    assert not is_finite(values)
