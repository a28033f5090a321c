"""A version on its way in: an OCI layout, or a folder with a model signature, opened and checked.

A parcel of ours carries the manifest, and so keeps its digest wherever it goes. One that others signed carries files
only. Nothing is taken on trust: a signature that is there is checked, and covers every file or none is taken.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from registry.canonical import sha256_file
from registry.errors import Corrupt, Invalid, Refused, Unavailable
from registry.exchange import bundle, oci
from registry.exchange.elliptic import PublicKey
from registry.manifest import Manifest


@dataclass(frozen=True)
class Parcel:
    """`files`: path -> where it lies; all checked. `manifest` is None in what others signed."""

    files: Mapping[str, Path]
    manifest: Manifest | None
    is_signed: bool


def open_parcel(directory: Path, *, key: PublicKey | None, tag: str | None = None) -> Parcel:
    """Recognise and check a folder. With a `key` a good signature is demanded; without, there must be none."""
    if not directory.is_dir():
        raise Invalid(f"{directory} is not a directory", param="directory")
    if (directory / oci.LAYOUT_FILE).is_file():
        return _open_layout(directory, key, tag)
    if (directory / bundle.SIGNATURE_FILE).is_file():
        return _open_signed(directory, key)
    raise Refused(
        f"{directory} is neither an OCI layout nor a folder with a {bundle.SIGNATURE_FILE}",
        hint="a folder of PEFT's is pushed: lorimer registry push",
    )


def _open_layout(directory: Path, key: PublicKey | None, tag: str | None) -> Parcel:
    artifact = oci.read(directory, tag)
    if artifact.signature is None and key is not None:
        raise Refused(f"{directory} is not signed", hint="import it without --key to take it unsigned")
    if artifact.signature is not None:
        signed = bundle.verify(artifact.signature, _needed(key, directory))
        if signed.manifest != artifact.manifest:
            raise Refused(f"{directory}: the signature is for another version than the one in the layout")
    return Parcel(artifact.files, artifact.manifest, artifact.signature is not None)


def _open_signed(directory: Path, key: PublicKey | None) -> Parcel:
    path = directory / bundle.SIGNATURE_FILE
    if path.stat().st_size > bundle.MAX_BYTES:
        raise Refused(f"{path} is larger than {bundle.MAX_BYTES} bytes")
    signed = bundle.verify(path.read_bytes(), _needed(key, directory))
    found = {name: file for name, file in _files(directory) if not _is_ignored(name, signed.ignored)}
    if missing := sorted(set(signed.files) - set(found)):
        raise Corrupt(f"{directory}: {missing[0]} is signed for, but missing")
    if unsigned := sorted(set(found) - set(signed.files)):
        raise Refused(f"{directory}: {unsigned[0]} is not covered by the signature", hint="remove it, or sign again")
    for name, file in found.items():
        if sha256_file(file) != signed.files[name]:
            raise Corrupt(f"{directory}: {name} is not the file that was signed")
    if signed.manifest is not None and {e.path: e.sha256 for e in signed.manifest.files} != dict(signed.files):
        raise Corrupt(f"{directory}: the signed manifest and the signed list of files differ")
    return Parcel(found, signed.manifest, is_signed=True)


def _needed(key: PublicKey | None, directory: Path) -> PublicKey:
    if key is None:
        raise Refused(f"{directory} is signed", hint="name the signer's public key with --key")
    return key


def _files(directory: Path) -> Iterator[tuple[str, Path]]:
    try:
        for root, folders, names in os.walk(directory):
            for name in [*folders, *names]:
                path = Path(root) / name
                if path.is_symlink() or not (path.is_dir() or path.is_file()):
                    raise Refused(f"{path.relative_to(directory)} is not a regular file")
                if path.is_file():
                    yield path.relative_to(directory).as_posix(), path
    except OSError as error:
        raise Unavailable(f"cannot read {directory}: {error.strerror or error}") from error


def _is_ignored(name: str, ignored: tuple[str, ...]) -> bool:
    """The signature itself, and what the signer said it does not cover."""
    return any(PurePosixPath(name).is_relative_to(each) for each in (*ignored, bundle.SIGNATURE_FILE))
