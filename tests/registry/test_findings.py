"""What is taken of a folder found in the wild, what is left out by name, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.errors import Invalid, NotFound, Refused
from registry.exchange.findings import find
from tests.registry.folders import write_folder
from tests.registry.wild import BESIDE, contents, write_checkpoint, write_shards


def test_a_plain_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    found = find(write_folder(tmp_path / "one"))
    assert not found.left_out
    with found.folder(tmp_path / "scratch") as folder:
        assert folder == tmp_path / "one"
    assert not (tmp_path / "scratch").exists()


def test_what_is_beside_the_adapter_is_left_out_and_named(tmp_path: Path) -> None:
    found = find(write_checkpoint(tmp_path / "checkpoint-20"))
    expected = {name.split("/")[0] + "/" if "/" in name else name for name in BESIDE}
    assert {each.path for each in found.left_out} == expected
    assert {each.path: each.reason for each in found.left_out}["optimizer.pt"] == "state of a training"
    with found.folder(tmp_path / "scratch") as folder:
        assert contents(folder) == contents(write_folder(tmp_path / "plain"))


def test_a_file_is_kept_on_demand(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "one")
    found = find(folder, ["README.md", "runs/events.out.tfevents.1"])
    assert {"README.md", "runs/events.out.tfevents.1"} <= set(found.files)
    assert "tokenizer.json" not in found.files
    with pytest.raises(NotFound, match=r"absent\.md"):
        find(folder, ["absent.md"])


def test_unknown_files_are_for_validation_to_judge(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "one")
    (folder / "evidence.json").write_text("{}")
    (folder / "surprise.pkl").write_bytes(b"")
    assert {"evidence.json", "surprise.pkl"} <= set(find(folder).files)


@pytest.mark.parametrize("name", ["adapter_model.bin", "pytorch_model.bin", "adapter_model.pt"])
def test_pickled_weights_are_refused_with_what_to_do(tmp_path: Path, name: str) -> None:
    folder = write_folder(tmp_path / "one")
    (folder / "adapter_model.safetensors").rename(folder / name)
    with pytest.raises(Refused, match=r"may run code when loaded.*save_pretrained"):
        find(folder)


def test_a_folder_of_adapters_names_them(tmp_path: Path) -> None:
    write_folder(tmp_path / "many" / "first")
    write_folder(tmp_path / "many" / "second")
    with pytest.raises(Refused, match="push first, second in it"):
        find(tmp_path / "many")
    with pytest.raises(Invalid, match="not a directory"):
        find(tmp_path / "absent")


def test_links_are_followed_in_snapshots_only(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "one")
    (folder / "more.json").symlink_to(folder / "adapter_config.json")
    with pytest.raises(Refused, match=r"more\.json is not a regular file"):
        find(folder)


def test_shards_are_joined(tmp_path: Path) -> None:
    found = find(write_shards(tmp_path / "sharded"))
    assert [each.path for each in found.left_out] == ["adapter_model.safetensors.index.json"]
    with found.folder(tmp_path / "scratch") as folder:
        assert sorted(contents(folder)) == ["adapter_config.json", "adapter_model.safetensors"]


def test_the_whole_file_goes_before_its_shards(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "both")
    write_folder(folder)
    (folder / "adapter_model.bin").write_bytes(b"")
    found = find(folder)
    assert (sorted(found.files), found.shards) == (["adapter_config.json", "adapter_model.safetensors"], {})
    assert {each.reason for each in found.left_out} == {"adapter_model.safetensors holds the weights"}
    assert len(found.left_out) == 4


def test_incomplete_shards_are_refused(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "sharded", count=3)
    (folder / "adapter_model-00002-of-00003.safetensors").unlink()
    with pytest.raises(Refused, match=r"adapter_model-00002-of-00003\.safetensors is missing"):
        find(folder)


def test_shards_of_another_set_are_refused(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "sharded")
    write_shards(tmp_path / "other", count=3)
    stray = "adapter_model-00003-of-00003.safetensors"
    (tmp_path / "other" / stray).rename(folder / stray)
    with pytest.raises(Refused, match="not complete"):
        find(folder)
