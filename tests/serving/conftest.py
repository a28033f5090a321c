"""Adapters of every kind on the tiny base, and what PEFT alone says about them."""

from __future__ import annotations

from typing import Any

import pytest

from serving.adapter import LoadedAdapter
from serving.base import Base

from .zoo import KINDS, LOW_RANK, Zoo

__all__ = ["KINDS", "LOW_RANK", "Zoo"]


@pytest.fixture(scope="session")
def zoo(tiny_base: Base, make_adapter: Any) -> Zoo:
    directories = [make_adapter(seed=seed, **kind) for seed, kind in enumerate(KINDS)]
    return Zoo(tiny_base, directories, [LoadedAdapter.from_directory(path, tiny_base) for path in directories])
