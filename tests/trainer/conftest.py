"""A registry in a directory, the tiny base's engine, and a task that a tiny random Llama can learn in seconds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from registry.adapters import Registry, Version
from registry.settings import Settings
from registry.store import open_store
from tests.trainer.letters import letter_rows
from trainer.spec import Spec, parse_spec

if TYPE_CHECKING:
    from trainer.candidate import Outcome

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


@dataclass(frozen=True, eq=False)
class Lab:
    """Where the tests train: a registry of their own, the shared tiny base and engine."""

    registry: Registry
    base: Any
    engine: Any
    home: Path

    def train(self, spec: Spec, progress: Any = None, **options: Any) -> Outcome:
        from trainer.run import train

        return train(spec, self.registry, self.base, self.engine, progress, **({"home": self.home} | options))


@pytest.fixture
def lab(registry: Registry, tiny_base: Any, engine: Any, tmp_path: Path) -> Lab:
    return Lab(registry, tiny_base, engine, tmp_path / "home")


def letter_spec_of(path: Path, **train: Any) -> Spec:
    """Vowels or stops? Answered with v or s."""
    return parse_spec(
        {
            "job": {"name": "letters", "task": "classify"},
            "method": {"r": 8, "alpha": 16},
            "data": {"train": str(path), "split": {"val": 0.1, "test": 0.25}},
            "train": {"lr": 1e-2, "epochs": 8, "steps": 30, "tokens_per_step": 256, "early_stop": {"every": 10}}
            | train,
            "gates": {"test/accuracy": {"min": 0.9, "vs": "base", "min_gain": 0.2}},
            "publish": {"alias": "prod"},
            "monitor": {"capture": True, "min_examples": 20},
        }
    )


@pytest.fixture
def letter_spec(write_jsonl: WriteJsonl) -> Spec:
    """Too few sessions for a reference, which takes longer than the training."""
    return letter_spec_of(write_jsonl(letter_rows(("vowels", "stops"), 30)))


@pytest.fixture(scope="session")
def champion_store(tiny_base: Any, engine: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which letters@prod is published, made with many small steps and some checkpoints."""
    root = tmp_path_factory.mktemp("champion")
    rows = root / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in letter_rows(("vowels", "stops"), 30)))
    registry = Registry(open_store(f"file://{root / 'store'}"), actor="tests")
    registry.init()
    spec = letter_spec_of(rows, tokens_per_step=96, steps=60, checkpoint_every=5)
    assert Lab(registry, tiny_base, engine, root / "home").train(spec).version is not None
    return root / "store"


@pytest.fixture
def champion(champion_store: Path, lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Version:
    """letters@prod in the test's own registry. Its challengers get no reference: that takes longer."""
    monkeypatch.setattr("trainer.profile.MIN_SESSIONS", 10_000)
    shutil.copytree(champion_store, tmp_path / "store", dirs_exist_ok=True)
    return lab.registry.resolve("letters@prod")
