"""DoRA: a low-rank change of a weight's direction, and a trained magnitude for each of its rows (arXiv:2402.09353)."""

from __future__ import annotations

import torch
from torch import Tensor


def row_gain(weight: Tensor, change: Tensor, magnitude: Tensor) -> Tensor:
    """m / ||W + change|| of each row, fixed because both are. weight, change: (rows, width); magnitude: (rows,)."""
    norm: Tensor = torch.linalg.vector_norm(weight.float() + change, dim=1)
    return magnitude / norm
