from pathlib import Path
from typing import Any

from registry.adapters import Registry
from trainer.run import train
from trainer.spec import Spec


def test_a_spec_becomes_a_published_version(
    registry: Registry, tiny_base: Any, engine: Any, letter_spec: Spec, tmp_path: Path
) -> None:
    outcome = train(letter_spec, registry, tiny_base, engine, home=tmp_path / "home")
    print(outcome.verdict, outcome.evidence.training, outcome.evidence.measured.candidate)
    assert outcome.version is not None
