"""Whether a tensor holds no infinity and no NaN, asked cheaply: it is asked of every tensor of every adapter loaded."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def is_finite(values: Tensor) -> bool:
    """One infinity or NaN makes the sum so. The reverse need not hold (sums overflow): then all are looked at."""
    return math.isfinite(values.sum()) or bool(torch.isfinite(values).all())
