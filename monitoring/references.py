"""Finds the reference inside an adapter version and the basis it was made with; remembers why one is missing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from monitoring.basis import Basis, load_basis
from monitoring.reference import FILE_NAME, Reference
from registry.adapters import Registry
from registry.errors import Corrupt, LorimerError, NotFound, Unavailable


@dataclass(frozen=True, eq=False)
class Profile:
    """All that is needed to watch one adapter version."""

    adapter: str
    digest: str
    version: int
    basis: Basis
    reference: Reference
    reference_sha256: str


class References:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._profiles: dict[str, Profile] = {}
        self._bases: dict[str, Basis] = {}
        self.missing: dict[str, str] = {}
        """Digest -> why that version cannot be watched."""

    def find(self, adapter: str, digest: str) -> Profile | None:
        """The profile, or None with the reason in `missing`; Unavailable when the store does not answer."""
        if digest not in self._profiles and digest not in self.missing:
            try:
                self._profiles[digest] = self._load(adapter, digest)
            except Unavailable:
                raise
            except LorimerError as error:
                self.missing[digest] = error.message
        return self._profiles.get(digest)

    def _load(self, adapter: str, digest: str) -> Profile:
        version = self._registry.state(adapter).find(digest)
        if version is None:
            raise NotFound(f"{adapter} has no version {digest[:19]}")
        entry = version.manifest.file(FILE_NAME)
        if entry is None:
            raise NotFound(f"{version.name} carries no {FILE_NAME}")
        data = self._registry.store.get(version.blob_key(entry.sha256))
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise Corrupt(f"{version.name}: {FILE_NAME} is not what was published")
        reference = Reference.from_bytes(data)
        basis = self._basis(version.manifest.base.weights_sha256)
        if basis.sha256 != reference.basis_sha256:
            raise Corrupt(f"{version.name}: {FILE_NAME} was made with another basis than its base has now")
        return Profile(adapter, digest, version.number, basis, reference, entry.sha256)

    def _basis(self, weights_sha256: str) -> Basis:
        if weights_sha256 not in self._bases:
            self._bases[weights_sha256] = load_basis(self._registry.store, weights_sha256)
        return self._bases[weights_sha256]
