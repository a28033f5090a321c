from pathlib import Path
from typing import Any

import pytest

from registry.errors import Invalid, NotFound
from trainer.spec import Gate, load_spec, parse_spec

LEAST: dict[str, Any] = {"job": {"name": "topic"}, "data": {"train": "rows.jsonl"}}


def test_the_least_spec_has_working_defaults() -> None:
    spec = parse_spec(LEAST)
    assert (spec.job.task, spec.method.targets, spec.method.r) == ("sft", "all-linear", 16)
    assert spec.train.early_stop is not None
    assert spec.publish.alias == "staging"


def test_toml_is_read_and_data_paths_are_relative_to_it(tmp_path: Path) -> None:
    path = tmp_path / "topic.toml"
    path.write_text(
        '[job]\nname = "topic"\ntask = "classify"\n[data]\ntrain = "rows.jsonl"\ntest = "/abs/test.jsonl"\n'
        '[gates]\n"test/f1" = { min = 0.85, vs = "parent" }\n"test/nll" = { max_drop = 0.01 }\n'
    )
    spec = load_spec(path)
    assert spec.data.train == str(tmp_path / "rows.jsonl")
    assert spec.data.test == "/abs/test.jsonl"
    assert spec.gates["test/f1"] == Gate(min=0.85, vs="parent")


@pytest.mark.parametrize(
    ("section", "values", "complaint"),
    [
        ("trian", {}, "unknown key trian .did you mean train"),
        ("train", {"learning_rate": 1e-4}, "unknown key train.learning_rate"),
        ("train", {"early_stop": {"patient": 3}}, r"unknown key train.early_stop.patient .did you mean patience"),
        ("gates", {"test/f1": {"minimum": 0.5}}, "unknown key gates.test/f1.minimum .did you mean min"),
        ("gates", {"test/f1": {}}, "'test/f1' states no condition"),
        ("train", {"lr": "fast"}, r"train\.lr: Expected `float`, got `str`"),
        ("train", {"lr": -1.0}, r"train\.lr: Expected `float` > 0"),
        ("data", {"train": "x", "dedup": "minhash:0.8"}, "data.dedup: Invalid enum value"),
        ("data", {"train": "x", "split": {"val": 0.5, "test": 0.5}}, "leaves nothing to train on"),
        ("data", {"train": "x", "labels": {"a": "yes", "b": "yes"}}, "the same words"),
        ("job", {"name": "Bad Name"}, "job.name"),
        ("job", {}, "missing required field `name`"),
    ],
)
def test_a_bad_key_is_named(section: str, values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(Invalid, match=complaint):
        parse_spec(LEAST | {section: values}, source="topic.toml")


def test_files_that_are_no_spec(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="does not exist"):
        load_spec(tmp_path / "absent.toml")
    (tmp_path / "broken.toml").write_text("[job\n")
    with pytest.raises(Invalid, match="not valid TOML"):
        load_spec(tmp_path / "broken.toml")
