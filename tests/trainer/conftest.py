"""A registry in a directory, the tiny base's engine, and a task that a tiny random Llama can learn in seconds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.adapters import Registry
from registry.settings import Settings
from registry.store import open_store
from tests.trainer.letters import letter_rows
from trainer.spec import Spec, parse_spec

WriteJsonl = Callable[..., Path]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The tiny Llama's products are too small to share, and identical resumes need a fixed number."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    registry = Registry(open_store(f"file://{tmp_path / 'store'}"), actor="tests")
    registry.init()
    return registry


@pytest.fixture(scope="session")
def engine(tiny_base: Any, tiny_settings: Settings) -> Iterator[Any]:
    from serving.engine import Engine

    engine = Engine.from_settings(tiny_base, tiny_settings)
    yield engine
    engine.close()


@pytest.fixture
def write_jsonl(tmp_path: Path) -> WriteJsonl:
    def write(rows: list[Any], name: str = "data.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
        return path

    return write


@pytest.fixture
def letter_spec(write_jsonl: WriteJsonl) -> Spec:
    """Vowels or stops? Answered with v or s."""
    path = write_jsonl(letter_rows(("vowels", "stops"), 60))
    return parse_spec(
        {
            "job": {"name": "letters", "task": "classify"},
            "method": {"r": 8, "alpha": 16},
            "data": {"train": str(path), "split": {"val": 0.1, "test": 0.25}},
            "train": {"lr": 1e-2, "steps": 30, "tokens_per_step": 512, "early_stop": {"every": 10, "rows": 12}},
            "gates": {"test/accuracy": {"min": 0.9, "vs": "base", "min_gain": 0.2}},
            "publish": {"alias": "prod"},
            "monitor": {"capture": True, "min_examples": 20},
        }
    )
