"""The map from a request's mean embedding to features with a known norm: whitened PCA, then random Fourier features.

One basis per base model, stored beside its profile, so that features of different adapters can be compared. Knows
nothing of adapters, references or time. The inner product of two feature vectors approximates a Gaussian kernel
(Rahimi and Recht 2007), so the distance of two means approximates the maximum mean discrepancy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import pdist
from scipy.stats import norm, qmc

from monitoring.tensors import pack, unpack
from registry.errors import Corrupt, Invalid
from registry.store import Store, create_surely

Array = npt.NDArray[np.float64]

NUM_COMPONENTS = 64
NUM_FEATURES = 512
MIN_ROWS = 16
ROWS_PER_COMPONENT = 4
"""Fewer rows than this per direction, and whitening would fit the sample's noise instead of the text."""
MEDIAN_SAMPLE = 1_000
_FORMAT = "lorimer-basis/1"


@dataclass(frozen=True, eq=False)
class Basis:
    """`center` (hidden,), `whiten` (hidden, p), `frequencies` (p, D / 2)."""

    center: npt.NDArray[np.float32]
    whiten: npt.NDArray[np.float32]
    frequencies: npt.NDArray[np.float32]
    sha256: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha256", hashlib.sha256(self.to_bytes()).hexdigest())

    @classmethod
    def fit(cls, embeddings: npt.ArrayLike, p: int = NUM_COMPONENTS, seed: int = 0) -> Basis:
        """Fit to `embeddings` (n, hidden): general input of the base, not one adapter's alone if there is a choice."""
        rows = np.asarray(embeddings, dtype=np.float64)
        if rows.ndim != 2 or len(rows) < MIN_ROWS or not np.isfinite(rows).all():
            raise Invalid(f"a basis needs at least {MIN_ROWS} finite rows, got an array of shape {rows.shape}")
        center = rows.mean(axis=0)
        whiten = _whitening(rows - center, min(p, len(rows) // ROWS_PER_COMPONENT, rows.shape[1]))
        sample = np.random.default_rng(seed).permutation(len(rows))[:MEDIAN_SAMPLE]
        sigma = float(np.median(pdist((rows[sample] - center) @ whiten)))
        if sigma <= 0.0:
            raise Invalid("a basis needs rows that differ from each other")
        points = _sobol_normal(NUM_FEATURES // 2, whiten.shape[1], seed) / sigma
        return cls(center.astype(np.float32), whiten.astype(np.float32), points.T.astype(np.float32))

    @property
    def hidden_size(self) -> int:
        return self.center.size

    def phi(self, embeddings: npt.ArrayLike) -> Array:
        """Features of `embeddings` (n, hidden) -> (n, D), each row of norm one."""
        rows = np.atleast_2d(np.asarray(embeddings, dtype=np.float64))
        if rows.shape[1] != self.hidden_size:
            raise Invalid(f"this basis maps vectors of {self.hidden_size} numbers, got {rows.shape[1]}")
        angles = (rows - self.center) @ self.whiten @ self.frequencies
        features: Array = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
        features /= np.sqrt(self.frequencies.shape[1])
        return features

    def to_bytes(self) -> bytes:
        arrays = {"center": self.center, "whiten": self.whiten, "frequencies": self.frequencies}
        return pack(arrays, {"format": _FORMAT})

    @classmethod
    def from_bytes(cls, data: bytes) -> Basis:
        arrays, metadata = unpack(data, "basis")
        if metadata.get("format") != _FORMAT or not {"center", "whiten", "frequencies"} <= arrays.keys():
            raise Corrupt("the basis object is not a basis")
        center, whiten, frequencies = (arrays[n].astype(np.float32) for n in ("center", "whiten", "frequencies"))
        if whiten.shape != (center.size, len(frequencies)):
            raise Corrupt(f"the basis has matrices that do not fit: {whiten.shape} and {frequencies.shape}")
        return cls(center, whiten, frequencies)


def basis_key(base_sha: str) -> str:
    return f"bases/{base_sha}/basis.safetensors"


def load_basis(store: Store, base_sha: str) -> Basis:
    """The base's basis; NotFound until somebody has made one."""
    return Basis.from_bytes(store.get(basis_key(base_sha)))


def get_or_create(store: Store, base_sha: str, fit: Callable[[], Basis]) -> Basis:
    """The base's one basis. `fit` runs only where there is none yet; of two racing makers the first one wins."""
    if not store.exists(basis_key(base_sha)):
        made = fit()
        if create_surely(store, basis_key(base_sha), made.to_bytes()):
            return made
    return load_basis(store, base_sha)


def _whitening(centered: Array, p: int) -> Array:
    """(hidden, p) to unit variance; eigenvalues are shrunk towards their mean as a small sample's spread too far."""
    _, singular, directions = np.linalg.svd(centered, full_matrices=False)
    variances = singular**2 / len(centered)
    kept = variances[:p]
    weight = p / (p + len(centered))
    shrunk = (1.0 - weight) * kept + weight * kept.mean()
    scaled: Array = (directions[:p] / np.sqrt(np.maximum(shrunk, 1e-12 * variances[0] + 1e-30))[:, None]).T
    return scaled


def _sobol_normal(n: int, dim: int, seed: int) -> Array:
    """(n, dim) scrambled Sobol points pushed through the normal quantile function."""
    uniform = qmc.Sobol(dim, scramble=True, rng=np.random.default_rng(seed)).random(n)
    points: Array = norm.ppf(np.clip(uniform, 1e-9, 1.0 - 1e-9))
    return points
