"""A version as an OCI image layout: a folder that skopeo and oras copy to any container registry, and back.

    oci-layout, index.json         index.json names the one artifact, as `v3`
    blobs/sha256/<digest>          the manifest (as the artifact's config), every file (as a layer), the OCI manifest

The artifact's config is the version's canonical manifest, so its digest there is the version's digest here. A model
signature is one more layer: tools that copy artifacts take it along, and those that unpack leave a signed folder.
Reads and writes local folders; speaks no HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from registry.canonical import canonical, sha256, sha256_file
from registry.errors import Corrupt, Invalid, NotFound, Refused, Unavailable
from registry.exchange.bundle import MAX_BYTES, MEDIA_TYPE, SIGNATURE_FILE
from registry.manifest import Manifest, digest
from registry.store import write_atomically

LAYOUT_FILE = "oci-layout"
ARTIFACT_TYPE = "application/vnd.lorimer.adapter.v1"
CONFIG_TYPE = "application/vnd.lorimer.manifest.v1+json"
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_TITLE = "org.opencontainers.image.title"
_REF_NAME = "org.opencontainers.image.ref.name"
Kind = TypeVar("Kind")
_FILE_TYPES = {".safetensors": "application/vnd.lorimer.weights.v1.safetensors", ".json": "application/json"}


class _Descriptor(msgspec.Struct, rename="camel", omit_defaults=True):
    media_type: str
    digest: str
    size: Annotated[int, msgspec.Meta(ge=0)]
    annotations: dict[str, str] = {}
    artifact_type: str = ""


class _Artifact(msgspec.Struct, rename="camel"):
    """What is read of an OCI image manifest. `layers` are the files."""

    config: _Descriptor
    layers: tuple[_Descriptor, ...]


class _Index(msgspec.Struct, rename="camel"):
    manifests: tuple[_Descriptor, ...]


@dataclass(frozen=True)
class Artifact:
    """A version found in a layout: its manifest, where its files lie, and the signature if there is one."""

    manifest: Manifest
    files: Mapping[str, Path]
    signature: bytes | None


def write(folder: Path, manifest: Manifest, files: Path, tag: str, signature: bytes | None) -> None:
    """Lay `folder` out. The files of the version are moved out of `files`, which is below it."""
    blobs = _Blobs(folder)
    layers = [blobs.move(files / e.path, _layer(e.path, e.sha256, e.size)) for e in manifest.files]
    if signature is not None:
        signed = blobs.write(signature, MEDIA_TYPE)
        layers.append(msgspec.structs.replace(signed, annotations={_TITLE: SIGNATURE_FILE}))
    artifact = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST_TYPE,
        "artifactType": ARTIFACT_TYPE,
        "config": blobs.write(canonical(manifest), CONFIG_TYPE),
        "layers": layers,
    }
    described = blobs.write(canonical(artifact), _MANIFEST_TYPE)
    listed = msgspec.structs.replace(described, annotations={_REF_NAME: tag}, artifact_type=ARTIFACT_TYPE)
    index = {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": [listed]}
    write_atomically(folder / "index.json", [canonical(index)])
    write_atomically(folder / LAYOUT_FILE, [canonical({"imageLayoutVersion": "1.0.0"})])


def read(folder: Path, tag: str | None = None) -> Artifact:
    """Find the version in a layout, every blob's digest checked. `tag` chooses where there are several."""
    blobs = _Blobs(folder)
    artifact = _choose(folder, _adapters(folder, blobs), tag)
    manifest = _decode(blobs.read(artifact.config), Manifest, artifact.config.digest)
    if digest(manifest) != artifact.config.digest:
        raise Refused(f"the manifest {artifact.config.digest} says more than this program reads", hint="update lorimer")
    by_digest = {layer.digest: layer for layer in artifact.layers}
    files = {}
    for entry in manifest.files:
        layer = by_digest.get(f"sha256:{entry.sha256}")
        if layer is None or layer.size != entry.size:
            raise Corrupt(f"{folder}: the artifact has no layer for {entry.path}")
        files[entry.path] = blobs.check(layer)
    signature = next((layer for layer in artifact.layers if layer.media_type == MEDIA_TYPE), None)
    return Artifact(manifest, files, blobs.read(signature) if signature else None)


def _adapters(folder: Path, blobs: _Blobs) -> dict[str, _Artifact]:
    """Tag -> artifact, of those in the layout that are adapters of ours."""
    index = _decode(_bytes(folder / "index.json"), _Index, f"{folder / 'index.json'}")
    found = {}
    for number, descriptor in enumerate(index.manifests):
        if descriptor.media_type == _MANIFEST_TYPE:
            artifact = _decode(blobs.read(descriptor), _Artifact, descriptor.digest)
            if artifact.config.media_type == CONFIG_TYPE:
                found[descriptor.annotations.get(_REF_NAME, f"(untagged {number})")] = artifact
    return found


def _choose(folder: Path, found: Mapping[str, _Artifact], tag: str | None) -> _Artifact:
    tags = ", ".join(sorted(found))
    if not found:
        raise Refused(f"{folder} holds no adapter that lorimer exported")
    if tag is not None and tag not in found:
        raise NotFound(f"{folder} holds no adapter with the tag {tag!r}", hint=f"there is {tags}")
    if tag is None and len(found) > 1:
        raise Invalid(f"{folder} holds several adapters", hint=f"choose with --tag: {tags}")
    return found[tag] if tag is not None else next(iter(found.values()))


def _layer(path: str, sha256: str, size: int) -> _Descriptor:
    media_type = _FILE_TYPES.get(Path(path).suffix, "application/octet-stream")
    return _Descriptor(media_type, f"sha256:{sha256}", size, {_TITLE: path})


class _Blobs:
    """The content-addressed half of a layout."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "blobs" / "sha256"

    def write(self, data: bytes, media_type: str) -> _Descriptor:
        self._folder.mkdir(parents=True, exist_ok=True)
        name = sha256(data)
        (self._folder / name).write_bytes(data)
        return _Descriptor(media_type, f"sha256:{name}", len(data))

    def move(self, path: Path, descriptor: _Descriptor) -> _Descriptor:
        self._folder.mkdir(parents=True, exist_ok=True)
        path.rename(self._path(descriptor))
        return descriptor

    def read(self, descriptor: _Descriptor) -> bytes:
        """A small blob, whole."""
        if descriptor.size > MAX_BYTES:
            raise Refused(f"{descriptor.digest} is {descriptor.size} bytes long; at most {MAX_BYTES} are read")
        data = _bytes(self._path(descriptor), descriptor.size)
        if (len(data), f"sha256:{sha256(data)}") != (descriptor.size, descriptor.digest):
            raise Corrupt(f"{self._path(descriptor)} is damaged: its bytes do not have its digest")
        return data

    def check(self, descriptor: _Descriptor) -> Path:
        """The path of a blob of any size, hashed just now."""
        path = self._path(descriptor)
        if path.is_symlink() or not path.is_file():
            raise Corrupt(f"{path} is missing, or not a regular file")
        if f"sha256:{sha256_file(path)}" != descriptor.digest:
            raise Corrupt(f"{path} is damaged: its bytes do not have its digest")
        return path

    def _path(self, descriptor: _Descriptor) -> Path:
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", descriptor.digest):
            raise Refused(f"{descriptor.digest[:80]!r} is not a sha256 digest")
        return self._folder / descriptor.digest.removeprefix("sha256:")


def _bytes(path: Path, size: int = MAX_BYTES) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(size + 1)
    except FileNotFoundError as error:
        raise Corrupt(f"{path} is missing") from error
    except OSError as error:
        raise Unavailable(f"cannot read {path}: {error.strerror or error}") from error


def _decode(data: bytes, kind: type[Kind], what: str) -> Kind:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(f"{what} is not what an OCI layout holds there: {error}") from error
