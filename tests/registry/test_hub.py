"""Snapshots of the Hub: links are followed into the cache's blobs only, and blobs are what their names say."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.adapters import Registry
from registry.errors import Corrupt, NotFound, Refused, Unavailable
from registry.exchange.findings import find
from registry.exchange.hub import find_snapshot
from tests.registry.folders import write_folder
from tests.registry.wild import REVISION, contents, write_checkpoint, write_snapshot

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    files = contents(write_checkpoint(tmp_path / "plain"))
    return write_snapshot(tmp_path / "hub", files, large=(WEIGHTS, "optimizer.pt"))


def test_a_snapshot_is_taken_through_its_links(tmp_path: Path, snapshot: Path, registry: Registry) -> None:
    found = find(snapshot)
    assert found.snapshot is not None
    assert found.snapshot.source == f"someone/tiny-lora@{REVISION}"
    with found.folder(tmp_path / "scratch") as folder:
        assert contents(folder) == contents(write_folder(tmp_path / "same"))
        published = registry.publish("support", folder)
    assert published.digest == registry.publish("support", tmp_path / "same").digest


def test_the_real_library_reads_such_a_cache(tmp_path: Path, snapshot: Path) -> None:
    from huggingface_hub import scan_cache_dir, try_to_load_from_cache

    found = try_to_load_from_cache("someone/tiny-lora", WEIGHTS, cache_dir=tmp_path / "hub")
    assert found == str(snapshot / WEIGHTS)
    (repository,) = scan_cache_dir(tmp_path / "hub").repos
    (revision,) = repository.revisions
    assert (repository.repo_id, revision.commit_hash) == ("someone/tiny-lora", REVISION)


def test_a_repository_means_its_main_snapshot(tmp_path: Path, snapshot: Path) -> None:
    repository = snapshot.parent.parent
    assert find(repository).directory == snapshot
    (tmp_path / "alias").symlink_to(snapshot)
    assert find_snapshot(tmp_path / "alias") == find_snapshot(snapshot)
    (repository / "refs" / "main").write_text("f" * 40)
    with pytest.raises(NotFound, match=REVISION):
        find(repository)


def test_other_folders_are_no_snapshots(tmp_path: Path) -> None:
    assert find_snapshot(write_folder(tmp_path / "one")) is None
    assert find_snapshot(write_folder(tmp_path / "snapshots" / REVISION)) is None


@pytest.mark.parametrize("target", ["/etc/hostname", "../../../../plain/README.md", "../../refs/main"])
def test_links_out_of_the_blobs_are_refused(snapshot: Path, target: str) -> None:
    (snapshot / "adapter_config.json").unlink()
    (snapshot / "adapter_config.json").symlink_to(target)
    with pytest.raises(Refused, match="outside the blobs"):
        find(snapshot)


def test_a_blob_that_is_itself_a_link_out_is_refused(tmp_path: Path, snapshot: Path) -> None:
    blob = (snapshot / "adapter_config.json").resolve()
    (tmp_path / "elsewhere").write_bytes(blob.read_bytes())
    blob.unlink()
    blob.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refused, match="outside the blobs"):
        find(snapshot)


def test_blobs_shared_within_the_cache_are_followed(tmp_path: Path, snapshot: Path) -> None:
    blob = (snapshot / WEIGHTS).resolve()
    shared = tmp_path / "hub" / "blobs" / "ab" / ("ab" * 32)
    shared.parent.mkdir(parents=True)
    blob.rename(shared)
    blob.symlink_to(Path("../../blobs/ab") / shared.name)
    with find(snapshot).folder(tmp_path / "scratch") as folder:
        assert (folder / WEIGHTS).read_bytes() == shared.read_bytes()


@pytest.mark.parametrize("name", [WEIGHTS, "adapter_config.json"])
def test_a_damaged_blob_is_named(snapshot: Path, name: str) -> None:
    blob = (snapshot / name).resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"!")
    with pytest.raises(Corrupt, match=blob.name):
        find(snapshot)


def test_a_download_that_was_broken_off_says_so(snapshot: Path) -> None:
    (snapshot / WEIGHTS).resolve().unlink()
    with pytest.raises(Unavailable, match="download the snapshot again"):
        find(snapshot)
