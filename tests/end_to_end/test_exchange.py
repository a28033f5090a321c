"""What PEFT and transformers write is taken in, and what goes out is what PEFT loads: with the real libraries."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry.adapters import Registry
from registry.directory import DirectoryStore
from registry.exchange.export import export
from registry.exchange.findings import find

MakeAdapter = Callable[..., Path]


@pytest.fixture
def registry(tiny_base: Any, tmp_path: Path) -> Registry:
    opened = Registry(DirectoryStore(tmp_path / "store"))
    opened.register_base(tiny_base.profile)
    return opened


def weights(base: Any, folder: Path) -> dict[str, Any]:
    """The adapter's parameters as PEFT loads them."""
    from peft import PeftModel

    model = PeftModel.from_pretrained(copy.deepcopy(base.module_tree()), folder)
    return {name: value for name, value in model.state_dict().items() if "lora_" in name}


def same(left: dict[str, Any], right: dict[str, Any]) -> bool:
    return left.keys() == right.keys() and all(bool((left[name] == right[name]).all()) for name in left)


def test_a_folder_of_pefts_comes_back_as_it_went(
    registry: Registry, tiny_base: Any, make_adapter: MakeAdapter, tmp_path: Path
) -> None:
    folder = make_adapter(4, 1)
    found = find(folder)
    assert [each.path for each in found.left_out] == ["README.md"]
    with found.folder(tmp_path / "scratch") as taken:
        registry.publish("support", taken, aliases={"prod": None})
    export(registry, "support", tmp_path / "out", form="peft")
    assert same(weights(tiny_base, tmp_path / "out"), weights(tiny_base, folder))


def rename_base(folder: Path, name: str) -> None:
    """PEFT asks the Hub for a base that it finds no folder of."""
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": name}))


def test_shards_that_transformers_wrote_are_joined(
    registry: Registry, tiny_base: Any, tiny_base_dir: Path, make_adapter: MakeAdapter, tmp_path: Path
) -> None:
    folder, sharded = shutil.copytree(make_adapter(4, 2), tmp_path / "whole"), tmp_path / "sharded"
    rename_base(folder, str(tiny_base_dir))
    model = copy.deepcopy(tiny_base.module_tree())
    model.load_adapter(str(folder))
    model.save_pretrained(sharded, max_shard_size=20_000)
    rename_base(sharded, tiny_base.profile.names[0])
    names = sorted(path.name for path in sharded.iterdir())
    assert any(name.startswith("adapter_model-00001-of-") for name in names), names
    with find(sharded).folder(tmp_path / "scratch") as taken:
        published = registry.publish("support", taken)
        assert same(weights(tiny_base, taken), weights(tiny_base, folder))
    assert [entry.path for entry in published.manifest.files] == ["adapter_config.json", "adapter_model.safetensors"]
