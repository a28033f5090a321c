"""Versions from elsewhere that keep their digest: out of a parcel, or out of another registry.

What comes in is checked as anything that is pushed, and must be exactly what the manifest that came with it says.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from registry.adapters import Registry
from registry.errors import Corrupt, NotFound, Refused
from registry.exchange.findings import find
from registry.exchange.parcel import Parcel
from registry.folders import staged, temporary_folder
from registry.manifest import FORMAT, Manifest, digest, is_safe_path
from registry.names import check_name
from registry.publishing import beside
from registry.store import Progress
from registry.validation import check_adapter, check_folder
from registry.verification import fetch_into
from registry.versions import Version


def take_in(
    registry: Registry,
    name: str,
    parcel: Parcel,
    *,
    aliases: Sequence[str] = (),
    reason: str = "",
    scratch: Path,
    progress: Progress | None = None,
) -> Version:
    """Publish what a parcel holds, under its own manifest where it has one."""
    moved = dict.fromkeys(aliases, msgspec.UNSET)
    for path in (entry.path for entry in parcel.manifest.files) if parcel.manifest else ():
        if not is_safe_path(path):
            raise Refused(f"{path[:200]!r} is not a safe file name")
    with staged(parcel.files, scratch) as folder:
        if parcel.manifest is None:
            with find(folder).folder(scratch) as adapter:
                return registry.publish(name, adapter, aliases=moved, reason=reason, progress=progress)
        check(registry, folder, parcel.manifest)
        changes = beside(digest(parcel.manifest), moved, None, reason, None)
        return registry.publish_as(check_name(name, "adapter"), folder, parcel.manifest, changes, progress)


def copy(
    source: Registry,
    ref: str,
    target: Registry,
    name: str,
    *,
    aliases: Sequence[str] = (),
    reason: str = "",
    scratch: Path,
    progress: Progress | None = None,
) -> Version:
    """Publish a version of one registry in another; what is there is not sent again."""
    version = source.obtainable(ref)
    manifest = version.manifest
    _bring_base(source, target, manifest.base.weights_sha256)
    changes = beside(version.digest, dict.fromkeys(aliases, msgspec.UNSET), None, reason, None)
    with temporary_folder(scratch) as folder:
        files = folder / "files"
        if not _is_in(target, name, version.digest):
            fetch_into(source.store, version, files, progress)
            check(target, files, manifest)
        return target.publish_as(check_name(name, "adapter"), files, manifest, changes, progress)


def check(registry: Registry, folder: Path, manifest: Manifest) -> None:
    """Refused or Corrupt unless the folder holds a valid adapter, and the manifest tells the truth about it."""
    if manifest.format != FORMAT:
        raise Refused(f"the version has the format {manifest.format}; this program reads {FORMAT}")
    profile = registry.base_profile(manifest.base.weights_sha256)
    if profile.identity != manifest.base:
        raise Refused(f"the version is for {manifest.base.id} with another tokenizer or template than is registered")
    files = check_folder(folder)
    if files != tuple(sorted(manifest.files, key=lambda entry: entry.path)):
        raise Corrupt("the files are not those that the manifest lists")
    found = check_adapter(folder, files, profile)
    said = (manifest.method, manifest.rank, manifest.alpha, manifest.targets)
    if said != (found.method, found.rank, found.alpha, found.targets):
        raise Refused(f"the manifest calls the version {manifest.in_words}, which its files are not")
    if manifest.evidence is not None and manifest.file(manifest.evidence) is None:
        raise Refused(f"the manifest's evidence {manifest.evidence!r} is not among its files")


def _bring_base(source: Registry, target: Registry, weights_sha256: str) -> None:
    """The profile of a base goes along where nobody has registered it; what the target knows of it stays."""
    try:
        target.base_profile(weights_sha256)
    except NotFound:
        target.register_base(source.base_profile(weights_sha256))


def _is_in(registry: Registry, name: str, digest: str) -> bool:
    try:
        return registry.state(name).find(digest) is not None
    except NotFound:
        return False
