"""Versions that come from elsewhere: checked like what is pushed, and the same version afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from registry.adapters import Registry, Version
from registry.canonical import canonical
from registry.directory import DirectoryStore
from registry.errors import Corrupt, Invalid, NotFound, Refused
from registry.exchange import oci
from registry.exchange.adoption import copy, take_in
from registry.exchange.elliptic import PublicKey, read_private_key, read_public_key
from registry.exchange.export import Format, export
from registry.exchange.parcel import open_parcel
from registry.manifest import BaseProfile, DatasetRecord, Manifest, Parent
from tests.registry.conftest import STORES, OpenAgain
from tests.registry.folders import PROFILE, write_folder
from tests.registry.keys import write_keys
from tests.registry.wild import contents

LINEAGE = {
    "parent": Parent(adapter="old", digest="sha256:" + "1" * 64),
    "dataset": DatasetRecord(uri="lorimer:x", sha256="2" * 64, rows=3, counts={"human": 3}),
    "metrics": {"loss": 0.5, "rows": 3.0},
    "evidence": "evidence.json",
    "tags": {"owner": "me"},
    "trainer": {"seed": 7},
}


@pytest.fixture
def version(registry: Registry, tmp_path: Path) -> Version:
    folder = write_folder(tmp_path / "one")
    (folder / "evidence.json").write_text("{}")
    return registry.publish("support", folder, aliases={"prod": None}, **LINEAGE)  # type: ignore[arg-type]


@pytest.fixture
def other(tmp_path: Path) -> Registry:
    """An empty registry elsewhere, with the base registered."""
    opened = Registry(DirectoryStore(tmp_path / "elsewhere"), "other")
    opened.register_base(PROFILE)
    return opened


def bring(registry: Registry, directory: Path, scratch: Path, key: PublicKey | None = None) -> Version:
    parcel = open_parcel(directory, key=key)
    return take_in(registry, "moved", parcel, aliases=["prod"], scratch=scratch)


@pytest.mark.parametrize("form", ["oms", "oci"])
def test_what_is_exported_comes_back_as_the_same_version(
    registry: Registry, version: Version, other: Registry, tmp_path: Path, form: Format
) -> None:
    private, public = write_keys(tmp_path)
    export(registry, "support", tmp_path / "out", form=form, key=read_private_key(private))
    moved = bring(other, tmp_path / "out", tmp_path / "scratch", read_public_key(public))
    assert (moved.digest, moved.manifest) == (version.digest, version.manifest)
    assert (moved.tenant, moved.adapter, moved.number) == ("other", "moved", 1)
    assert other.resolve("moved").digest == version.digest
    assert other.verify("moved").num_blobs == 3
    assert bring(other, tmp_path / "out", tmp_path / "scratch", read_public_key(public)).number == 1
    assert not [*(tmp_path / "scratch").iterdir()]


def test_a_plain_export_is_the_folder_that_was_pushed(registry: Registry, version: Version, tmp_path: Path) -> None:
    export(registry, "support", tmp_path / "out", form="peft")
    assert contents(tmp_path / "out") == contents(tmp_path / "one")
    with pytest.raises(Invalid, match="needs a key"):
        export(registry, "support", tmp_path / "no", form="oms")
    with pytest.raises(Invalid, match="no place for a signature"):
        export(registry, "support", tmp_path / "no", form="peft", key=read_private_key(write_keys(tmp_path)[0]))


def test_signatures_are_demanded_and_checked(
    registry: Registry, version: Version, other: Registry, tmp_path: Path
) -> None:
    (mine, public), (theirs, _) = write_keys(tmp_path, "mine"), write_keys(tmp_path, "theirs")
    key = read_public_key(public)
    export(registry, "support", tmp_path / "plain", form="oci")
    with pytest.raises(Refused, match="is not signed"):
        bring(other, tmp_path / "plain", tmp_path / "scratch", key)
    for form in ("oms", "oci"):
        for signer in (mine, theirs):
            export(registry, "support", tmp_path / form / signer.stem, form=form, key=read_private_key(signer))
        with pytest.raises(Refused, match=r"is signed .*--key"):
            bring(other, tmp_path / form / "mine", tmp_path / "scratch")
        with pytest.raises(Refused, match="not made with this key"):
            bring(other, tmp_path / form / "theirs", tmp_path / "scratch", key)
    with pytest.raises(Refused, match="registry push"):
        bring(other, tmp_path / "one", tmp_path / "scratch", key)
    with pytest.raises(NotFound):
        other.state("moved")


def _add(folder: Path) -> None:
    (folder / "extra.txt").write_text("x")


def _drop(folder: Path) -> None:
    (folder / "evidence.json").unlink()


def _alter(folder: Path) -> None:
    (folder / "evidence.json").write_text("{ }")


def _link(folder: Path) -> None:
    (folder / "extra.txt").symlink_to("/etc/hostname")


SPOILS = {
    _add: r"extra\.txt is not covered",
    _drop: r"evidence\.json is signed for, but missing",
    _alter: r"evidence\.json is not the file that was signed",
    _link: r"extra\.txt is not a regular file",
}


@pytest.mark.parametrize(("spoil", "message"), SPOILS.items())
def test_a_signed_folder_is_taken_whole_or_not(
    registry: Registry, version: Version, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    private, public = write_keys(tmp_path)
    export(registry, "support", tmp_path / "out", form="oms", key=read_private_key(private))
    spoil(tmp_path / "out")
    with pytest.raises((Refused, Corrupt), match=message):
        open_parcel(tmp_path / "out", key=read_public_key(public))


def test_a_signature_of_another_version_is_refused(registry: Registry, version: Version, tmp_path: Path) -> None:
    private, public = write_keys(tmp_path)
    registry.publish("support", write_folder(tmp_path / "two", seed=2))
    for number in (1, 2):
        export(registry, f"support@v{number}", tmp_path / f"v{number}", form="oms", key=read_private_key(private))
    shutil.copytree(tmp_path / "one", tmp_path / "layout" / "files")
    signature = (tmp_path / "v2" / "model.sig").read_bytes()
    oci.write(tmp_path / "layout", version.manifest, tmp_path / "layout" / "files", "v1", signature)
    with pytest.raises(Refused, match="another version"):
        open_parcel(tmp_path / "layout", key=read_public_key(public))


Lie = Callable[[Manifest], Manifest]


@pytest.mark.parametrize(
    ("lie", "message"),
    [
        (lambda m: msgspec.structs.replace(m, rank=3), "which its files are not"),
        (lambda m: msgspec.structs.replace(m, method="dora"), "which its files are not"),
        (lambda m: msgspec.structs.replace(m, format="peft-lora/2"), "this program reads"),
        (lambda m: msgspec.structs.replace(m, evidence="absent.json"), "not among its files"),
        (
            lambda m: msgspec.structs.replace(m, base=msgspec.structs.replace(m.base, template_sha256="f" * 64)),
            "another",
        ),
        (lambda m: msgspec.structs.replace(m, base=msgspec.structs.replace(m.base, weights_sha256="f" * 64)), "base"),
        (
            lambda m: msgspec.structs.replace(
                m, files=(msgspec.structs.replace(m.files[0], path="../x"), *m.files[1:])
            ),
            "safe file name",
        ),
    ],
)
def test_a_manifest_that_lies_is_refused(
    version: Version, other: Registry, tmp_path: Path, lie: Lie, message: str
) -> None:
    manifest = lie(version.manifest)
    files = tmp_path / "layout" / "inner" / "files"
    shutil.copytree(tmp_path / "one", files)
    if manifest.files[0].path.startswith(".."):
        (files / "adapter_config.json").rename(files.parent / "x")
    oci.write(tmp_path / "layout" / "inner", manifest, files, "v1", None)
    with pytest.raises((Refused, NotFound), match=message):
        bring(other, tmp_path / "layout" / "inner", tmp_path / "scratch")


def test_a_manifest_of_a_newer_program_is_refused(version: Version, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    shutil.copytree(tmp_path / "one", layout / "files")
    oci.write(layout, version.manifest, layout / "files", "v1", None)
    newer = canonical(msgspec.to_builtins(version.manifest) | {"invented_later": 1})
    _replace_config(layout, newer)
    with pytest.raises(Refused, match="update lorimer"):
        oci.read(layout)


def _replace_config(layout: Path, config: bytes) -> None:
    blobs = oci._Blobs(layout)
    described = blobs.write(config, oci.CONFIG_TYPE)
    artifact = blobs.write(canonical({"config": described, "layers": []}), "application/vnd.oci.image.manifest.v1+json")
    (layout / "index.json").write_bytes(canonical({"manifests": [artifact]}))


def test_a_copy_is_the_same_version(registry: Registry, version: Version, tmp_path: Path) -> None:
    empty = Registry(DirectoryStore(tmp_path / "elsewhere"))
    seen: list[tuple[int, int]] = []
    moved = copy(
        registry,
        "support",
        empty,
        "support",
        aliases=["prod"],
        scratch=tmp_path / "scratch",
        progress=lambda done, total: seen.append((done, total)),
    )
    assert (moved.digest, moved.manifest) == (version.digest, version.manifest)
    assert empty.bases() == [PROFILE]
    assert empty.verify("support").num_versions == 1
    assert seen[-1][0] == seen[-1][1]
    assert not [*(tmp_path / "scratch").iterdir()]


@pytest.mark.parametrize("open_again", STORES, indirect=True)
def test_copies_travel_between_stores(
    open_again: OpenAgain, registry: Registry, version: Version, tmp_path: Path
) -> None:
    there, back = Registry(open_again(), "far"), Registry(DirectoryStore(tmp_path / "back"))
    copy(registry, "support", there, "support", aliases=["prod"], scratch=tmp_path / "scratch")
    export(there, "support", tmp_path / "out", form="oci")
    assert oci.read(tmp_path / "out").manifest == version.manifest
    assert copy(there, "support", back, "home", scratch=tmp_path / "scratch").digest == version.digest
    assert back.verify("home").num_bytes == version.manifest.num_bytes


def test_what_the_target_knows_of_a_base_stays(
    registry: Registry, version: Version, other: Registry, tmp_path: Path
) -> None:
    registry.register_base(msgspec.structs.replace(PROFILE, names=("another",), vocab_size=64))
    copy(registry, "support", other, "support", scratch=tmp_path / "scratch")
    assert other.bases() == [PROFILE]
    narrower = msgspec.structs.replace(PROFILE, linears={})
    with pytest.raises(Refused, match="is no linear"):
        copy(registry, "support", _with_base(tmp_path / "narrow", narrower), "support", scratch=tmp_path / "scratch")


def _with_base(root: Path, profile: BaseProfile) -> Registry:
    opened = Registry(DirectoryStore(root))
    opened.register_base(profile)
    return opened


def test_what_is_there_is_not_sent_again(registry: Registry, version: Version, other: Registry, tmp_path: Path) -> None:
    copy(registry, "support", other, "support", scratch=tmp_path / "scratch")
    shutil.rmtree(tmp_path / "store" / "t/default/a/support/blobs")
    again = copy(registry, "support", other, "support", aliases=["prod"], scratch=tmp_path / "scratch")
    assert (again.number, other.state("support").aliases) == (1, {"prod": version.digest})


def test_a_damaged_blob_is_not_copied(registry: Registry, version: Version, other: Registry, tmp_path: Path) -> None:
    next((tmp_path / "store" / "t/default/a/support/blobs").iterdir()).write_bytes(b"damaged")
    with pytest.raises(Corrupt):
        copy(registry, "support", other, "support", scratch=tmp_path / "scratch")
    assert not other.list()
