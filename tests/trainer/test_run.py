from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from registry.adapters import Registry
from registry.canonical import sha256_file
from registry.datasets import Datasets
from registry.errors import LorimerError, NotFound, Refused, Unavailable
from registry.policy import Policy
from tests.trainer.conftest import letter_spec_of
from tests.trainer.letters import letter_rows
from trainer.dataset import fingerprint, read_splits
from trainer.evidence import read_evidence
from trainer.run import read_spec, resume
from trainer.spec import Gate, Spec

if TYPE_CHECKING:
    from tests.trainer.conftest import Lab


def changed(spec: Spec, section: str, **values: Any) -> Spec:
    return msgspec.structs.replace(spec, **{section: msgspec.structs.replace(getattr(spec, section), **values)})


def test_a_spec_becomes_a_published_version(lab: Lab, write_jsonl: Any, tmp_path: Path) -> None:
    letter_spec = letter_spec_of(write_jsonl(letter_rows(("vowels", "stops"), 40)))
    stages: list[str] = []
    outcome = lab.train(letter_spec, lambda stage, *_: stages.append(stage))
    version = outcome.version
    assert version is not None
    assert lab.registry.resolve("letters@prod") == version
    assert lab.registry.policy("letters") == Policy(capture=True, min_examples=20)
    assert list(dict.fromkeys(stages)) == ["reading data", "training", "evaluating", "profiling input", "publishing"]
    assert not list((lab.home / "runs").iterdir())

    pulled = tmp_path / "pulled"
    lab.registry.pull("letters", pulled)
    assert {path.name for path in pulled.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "evidence.json",
        "reference.safetensors",
        "spec.json",
    }
    manifest = version.manifest
    evidence = read_evidence(pulled)
    assert manifest.evidence == "evidence.json"
    assert manifest.metrics["test/accuracy"] >= 0.9 > manifest.metrics["base/test/accuracy"]
    assert evidence.measured == outcome.evidence.measured
    assert manifest.tags == {"suite/test": evidence.suites["test"]}
    assert read_spec(pulled / "spec.json").data.labels == {"s": "s", "v": "v"}

    assert manifest.dataset is not None
    Datasets(lab.registry.store).fetch(manifest.dataset.sha256, tmp_path / "rows.jsonl")
    splits = read_splits(tmp_path / "rows.jsonl")
    assert {name: len(rows) for name, rows in splits.items()} == manifest.dataset.counts
    assert evidence.suites == {"test": fingerprint(splits.test)}
    assert evidence.data.sha256 == sha256_file(tmp_path / "rows.jsonl")


def test_the_files_are_what_peft_loads_and_what_was_measured(lab: Lab, letter_spec: Spec, tmp_path: Path) -> None:
    import torch
    from peft import PeftModel

    version = lab.train(letter_spec).version
    assert version is not None
    lab.registry.pull("letters", tmp_path / "pulled")
    model = PeftModel.from_pretrained(lab.base.module_tree(), str(tmp_path / "pulled")).eval()
    prompt = lab.base.render([{"role": "user", "content": "aeiouaeiou"}])
    with torch.no_grad():
        token = int(model(torch.tensor([prompt])).logits[0, -1].argmax())
    assert lab.base.tokenizer.decode([token]) == "v"


def test_a_failed_gate_publishes_nothing_and_keeps_the_evidence(lab: Lab, letter_spec: Spec, tmp_path: Path) -> None:
    spec = changed(letter_spec, "train", steps=1)
    refused = lab.train(spec)
    assert refused.version is None
    assert refused.verdict.failures
    assert not read_evidence(refused.directory).passed
    with pytest.raises(NotFound):
        lab.registry.state("letters")

    lenient = msgspec.structs.replace(spec, gates={"test/accuracy": Gate(min=0.0)})
    accepted = lab.train(lenient)
    assert accepted.version is not None
    assert accepted.evidence.training == refused.evidence.training


def test_a_stopped_run_goes_on_from_its_directory(lab: Lab, letter_spec: Spec, tmp_path: Path) -> None:
    whole = lab.train(letter_spec, home=tmp_path / "whole")
    steps = 0

    def count(stage: str, *_: object) -> None:
        nonlocal steps
        steps += stage == "training"

    with pytest.raises(Unavailable, match="stopped at step 7"):
        lab.train(letter_spec, count, stop=lambda: steps >= 7)
    (directory,) = (lab.home / "runs").iterdir()
    steps = 0
    outcome = resume(directory, lab.registry, lab.base, lab.engine, count)
    assert steps == whole.evidence.training.steps - 7
    assert outcome.evidence.training == whole.evidence.training
    assert outcome.version is not None
    assert whole.version is not None
    assert outcome.version.digest == whole.version.digest


def test_dying_between_the_files_and_the_registry_publishes_once(
    lab: Lab, letter_spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Registry.publish

    def publish_and_die(*args: Any, **kwargs: Any) -> Any:
        real(*args, **kwargs)
        raise LorimerError("power cut")

    monkeypatch.setattr(Registry, "publish", publish_and_die)
    with pytest.raises(LorimerError, match="power cut"):
        lab.train(letter_spec)
    monkeypatch.undo()
    lab.train(letter_spec)
    assert len(lab.registry.state("letters").versions) == 1


def test_a_parent_is_started_from_compared_with_and_named(lab: Lab, letter_spec: Spec, tmp_path: Path) -> None:
    first = lab.train(letter_spec).version
    assert first is not None
    spec = changed(changed(letter_spec, "job", parent="letters@prod"), "train", steps=2)
    spec = msgspec.structs.replace(spec, gates={"test/accuracy": Gate(vs="parent", max_drop=0.1)})
    outcome = lab.train(spec)
    assert outcome.version is not None
    assert outcome.version.manifest.parent is not None
    assert outcome.version.manifest.parent.digest == first.digest
    assert outcome.evidence.measured.parent is not None
    assert outcome.evidence.training.losses[0] < 0.5


def test_instruction_tuning_is_measured_by_likelihood(lab: Lab, write_jsonl: Any) -> None:
    rows = [{"prompt": f"say {word} {i}", "completion": f"{word}!"} for i in range(40) for word in ("yes", "no")]
    spec = msgspec.convert(
        {
            "job": {"name": "echo"},
            "data": {"train": str(write_jsonl(rows))},
            "train": {"lr": 1e-2, "steps": 12, "tokens_per_step": 512},
        },
        Spec,
    )
    outcome = lab.train(spec)
    measured = outcome.evidence.measured
    assert outcome.version is not None
    assert measured.base is not None
    assert (measured.candidate["test/nll"].value or 9) < (measured.base["test/nll"].value or 0)
    assert lab.registry.resolve("echo@staging") == outcome.version


def test_another_base_is_refused(lab: Lab, letter_spec: Spec, tmp_path: Path) -> None:
    spec = changed(letter_spec, "job", base="some-other-model")
    with pytest.raises(Refused, match=r"job.base is some-other-model"):
        lab.train(spec)
