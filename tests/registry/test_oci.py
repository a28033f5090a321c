"""OCI layouts: what real tools make of them, that a damaged blob is named, and that the digest is the version's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.adapters import Registry
from registry.canonical import canonical, sha256
from registry.errors import Corrupt, Invalid, LorimerError, NotFound, Refused
from registry.exchange import oci
from registry.exchange.elliptic import read_private_key, read_public_key
from registry.exchange.export import export
from registry.exchange.parcel import open_parcel
from tests.registry.folders import write_folder
from tests.registry.keys import write_keys
from tests.registry.wild import contents

Skopeo = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def skopeo() -> Skopeo:
    """A real tool for OCI layouts; Debian has it."""
    if shutil.which("skopeo") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("skopeo is not installed (see tests/install-tools.sh)")
        pytest.skip("skopeo is not installed")
    return lambda *arguments: subprocess.run(
        ["skopeo", "--insecure-policy", *arguments], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture
def layout(registry: Registry, tmp_path: Path) -> Path:
    registry.publish("support", write_folder(tmp_path / "one"), aliases={"prod": None}, metrics={"loss": 0.5})
    export(registry, "support", tmp_path / "layout", form="oci")
    return tmp_path / "layout"


def blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / "sha256" / digest.removeprefix("sha256:")


def index(layout: Path) -> Any:
    return json.loads((layout / "index.json").read_bytes())


def test_the_config_is_the_version(registry: Registry, layout: Path) -> None:
    version = registry.resolve("support")
    (listed,) = index(layout)["manifests"]
    artifact = json.loads(blob(layout, listed["digest"]).read_bytes())
    assert artifact["config"]["digest"] == version.digest
    assert blob(layout, version.digest).read_bytes() == canonical(version.manifest)
    assert artifact["artifactType"] == listed["artifactType"] == oci.ARTIFACT_TYPE
    titles = {layer["annotations"]["org.opencontainers.image.title"]: layer["digest"] for layer in artifact["layers"]}
    assert titles == {entry.path: f"sha256:{entry.sha256}" for entry in version.manifest.files}
    assert oci.read(layout).manifest == version.manifest
    for path in (layout / "blobs" / "sha256").iterdir():
        assert sha256(path.read_bytes()) == path.name


def test_skopeo_copies_it_there_and_back(layout: Path, tmp_path: Path, skopeo: Skopeo) -> None:
    assert skopeo("inspect", "--raw", f"oci:{layout}:v1").returncode == 0
    done = skopeo("copy", "--preserve-digests", f"oci:{layout}:v1", f"dir:{tmp_path}/plain")
    assert done.returncode == 0, done.stderr
    done = skopeo("copy", "--preserve-digests", f"dir:{tmp_path}/plain", f"oci:{tmp_path}/back:again")
    assert done.returncode == 0, done.stderr
    assert oci.read(tmp_path / "back").manifest == oci.read(layout).manifest
    assert [each["digest"] for each in index(tmp_path / "back")["manifests"]] == [
        each["digest"] for each in index(layout)["manifests"]
    ]


def test_skopeo_takes_the_signature_along(registry: Registry, layout: Path, tmp_path: Path, skopeo: Skopeo) -> None:
    private, public = write_keys(tmp_path)
    export(registry, "support", tmp_path / "signed", form="oci", key=read_private_key(private))
    done = skopeo("copy", "--preserve-digests", f"oci:{tmp_path}/signed:v1", f"oci:{tmp_path}/copy:v1")
    assert done.returncode == 0, done.stderr
    assert open_parcel(tmp_path / "copy", key=read_public_key(public)).is_signed


def test_skopeo_sees_a_damaged_blob_as_we_do(layout: Path, tmp_path: Path, skopeo: Skopeo) -> None:
    weights = max((layout / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size)
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    assert skopeo("copy", f"oci:{layout}:v1", f"dir:{tmp_path}/plain").returncode != 0
    with pytest.raises(Corrupt, match=weights.name):
        oci.read(layout)


def test_the_same_version_makes_the_same_bytes(registry: Registry, layout: Path, tmp_path: Path) -> None:
    export(registry, "support", tmp_path / "again", form="oci")
    assert contents(tmp_path / "again") == contents(layout)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_every_blob_is_checked(layout: Path) -> None:
    for path in sorted((layout / "blobs" / "sha256").iterdir()):
        whole = path.read_bytes()
        path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
        with pytest.raises(Corrupt, match=path.name):
            oci.read(layout)
        path.unlink()
        with pytest.raises(Corrupt, match=path.name):
            oci.read(layout)
        path.symlink_to("/etc/hostname")
        with pytest.raises(Corrupt, match=path.name):
            oci.read(layout)
        path.unlink()
        path.write_bytes(whole)
    assert oci.read(layout).files


def test_versions_are_chosen_by_tag(registry: Registry, layout: Path, tmp_path: Path) -> None:
    registry.publish("support", write_folder(tmp_path / "two", seed=2))
    export(registry, "support@v2", tmp_path / "second", form="oci")
    shutil.copytree(tmp_path / "second" / "blobs", layout / "blobs", dirs_exist_ok=True)
    both = index(layout)
    both["manifests"] += index(tmp_path / "second")["manifests"]
    (layout / "index.json").write_bytes(canonical(both))
    assert oci.read(layout, "v2").manifest == registry.show("support@v2").manifest
    with pytest.raises(Invalid, match="choose with --tag: v1, v2"):
        oci.read(layout)
    with pytest.raises(NotFound, match="v3"):
        oci.read(layout, "v3")


def test_images_and_nonsense_are_refused(layout: Path) -> None:
    whole = index(layout)
    for manifests, message in {
        "[]": "holds no adapter",
        '[{"mediaType": "application/vnd.oci.image.index.v1+json", "digest": "sha256:0", "size": 1}]': "no adapter",
        '[{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "../../x", "size": 1}]': "not a sha256",
        '[{"mediaType": 1}]': "not what an OCI layout holds",
    }.items():
        (layout / "index.json").write_bytes(canonical(whole | {"manifests": json.loads(manifests)}))
        with pytest.raises(Refused, match=message):
            oci.read(layout)
    (layout / "index.json").unlink()
    with pytest.raises(Corrupt, match=r"index\.json is missing"):
        oci.read(layout)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["manifests", "mediaType", "digest", "size"]), inner)
    ),
    max_leaves=12,
)
DESCRIPTORS = st.fixed_dictionaries(
    {
        "mediaType": st.sampled_from(["application/vnd.oci.image.manifest.v1+json", oci.CONFIG_TYPE, "x"]),
        "digest": st.sampled_from(["sha256:" + "0" * 64, "sha256:", "../x", "", "sha512:" + "0" * 128]) | st.text(),
        "size": st.integers(-(2**70), 2**70) | st.floats(),
    }
)


@settings(max_examples=300, deadline=None)
@given(index=JSON | st.fixed_dictionaries({"manifests": st.lists(DESCRIPTORS | JSON, max_size=3)}))
def test_nonsense_is_never_more_than_refused(index: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    layout = tmp_path_factory.getbasetemp() / "nonsense"
    layout.mkdir(exist_ok=True)
    (layout / "index.json").write_text(json.dumps(index))
    with pytest.raises(LorimerError):
        oci.read(layout)
