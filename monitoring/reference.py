"""An adapter version's profile of normal input, made once at training time and published inside the version.

Holds the mean of phi over sessions, how uncertain it is (eps_n), how uneven normal input is (delta), the scalars'
quantiles and layer A's thresholds. Carries no text and no single request. Knows nothing of live traffic.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from monitoring.basis import Basis
from monitoring.calibration import calibrate
from monitoring.chart import RATES
from monitoring.observation import Vector
from monitoring.quantiles import Quantiles
from monitoring.tensors import pack, unpack
from registry.errors import Corrupt, Invalid

Array = npt.NDArray[np.float64]

FILE_NAME = "reference.safetensors"
MIN_SESSIONS = 32
CALIBRATION_SHARE = 0.25
NUM_RESAMPLES = 400
EPS_QUANTILE = 0.95
DELTA_QUANTILE = 0.99
SCALAR_ERROR = 0.05
"""Chance that the margin of any tail of any scalar fails."""
TARGET_RUN_LENGTH = 1000
"""Sessions between false watches of layer A, all its charts together."""
_FORMAT = "lorimer-reference/1"


class Features(Protocol):
    """What a reference is made of; an `Observation` is one."""

    @property
    def embedding(self) -> Vector: ...
    @property
    def scalars(self) -> Mapping[str, float]: ...
    @property
    def session(self) -> str: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """One training row's features. Rows of one `session` (a dialogue, say) count as one; "" stands alone."""

    embedding: Vector
    scalars: Mapping[str, float] = field(default_factory=dict)
    session: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """`mu` (D,); `thresholds`, one per rate of layer A; norms and errors are in the feature space."""

    mu: Array
    num_sessions: int
    eps: float
    delta: float
    thresholds: tuple[float, ...]
    scalars: Mapping[str, Quantiles]
    basis_sha256: str

    @property
    def slack(self) -> float:
        """Distance from `mu` that is not drift: the reference's unevenness and its own error."""
        return self.delta + self.eps

    def to_bytes(self) -> bytes:
        """As safetensors, for `FILE_NAME` in a version."""
        metadata = {
            "format": _FORMAT,
            "basis_sha256": self.basis_sha256,
            "numbers": json.dumps({"num_sessions": self.num_sessions, "eps": self.eps, "delta": self.delta}),
            "scalars": json.dumps({name: [q.margin, q.tolerance] for name, q in sorted(self.scalars.items())}),
        }
        scalars = {f"scalar.{name}": quantiles.points for name, quantiles in self.scalars.items()}
        return pack({"mu": self.mu, "thresholds": np.array(self.thresholds), **scalars}, metadata)

    @classmethod
    def from_bytes(cls, data: bytes) -> Reference:
        arrays, metadata = unpack(data, "reference")
        try:
            if metadata["format"] != _FORMAT:
                raise Corrupt(f"the reference has the unknown format {metadata['format']!r}")
            numbers, scalars = json.loads(metadata["numbers"]), json.loads(metadata["scalars"])
            thresholds = tuple(float(h) for h in arrays["thresholds"].astype(np.float64))
            if len(thresholds) != len(RATES):
                raise Corrupt(f"the reference has {len(thresholds)} thresholds, expected {len(RATES)}")
            return cls(
                mu=arrays["mu"].astype(np.float64),
                num_sessions=int(numbers["num_sessions"]),
                eps=float(numbers["eps"]),
                delta=float(numbers["delta"]),
                thresholds=thresholds,
                scalars={
                    name: Quantiles(arrays[f"scalar.{name}"].astype(np.float64), float(margin), float(tolerance))
                    for name, (margin, tolerance) in scalars.items()
                },
                basis_sha256=metadata["basis_sha256"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise Corrupt(f"the reference cannot be read: {error}") from error


def build_reference(
    basis: Basis,
    features: Sequence[Features],
    calibration: Sequence[Features] | None = None,
    *,
    seed: int = 0,
    target_run_length: float = TARGET_RUN_LENGTH,
) -> Reference:
    """Profile `features`; layer A is calibrated on `calibration`, disjoint from them, or else by cross-fitting."""
    rng = np.random.default_rng(seed)
    sessions, scalars = sessions_of(basis, features)
    if len(sessions) < MIN_SESSIONS:
        raise Invalid(f"a reference needs {MIN_SESSIONS} sessions, got {len(sessions)}")
    mu = sessions.mean(axis=0)
    if calibration is None:
        folds = cross_fit(sessions, rng)
    else:
        folds = [sessions_of(basis, calibration)[0] - mu]
        if len(folds[0]) < 2:
            raise Invalid("a reference needs at least two sessions to calibrate on")
    # Each of the charts gets its share of the false watches.
    thresholds = [calibrate(folds, rate, target_run_length * len(RATES), rng) for rate in RATES]
    return Reference(
        mu=mu,
        num_sessions=len(sessions),
        eps=bootstrap_error(sessions, rng),
        delta=unevenness(sessions, rng),
        thresholds=tuple(thresholds),
        scalars=_quantiles(scalars),
        basis_sha256=basis.sha256,
    )


def cross_fit(sessions: Array, rng: np.random.Generator) -> list[Array]:
    """Quarters of the sessions, each minus the mean of the other three: no session is set aside for good."""
    parts = np.array_split(rng.permutation(len(sessions)), round(1 / CALIBRATION_SHARE))
    return [sessions[part] - np.delete(sessions, part, axis=0).mean(axis=0) for part in parts]


def sessions_of(basis: Basis, features: Sequence[Features]) -> tuple[Array, list[dict[str, float]]]:
    """Per session, in order of appearance: mean phi (sessions, D) and mean scalars. Rows not finite drop out."""
    rows = [row for row in features if row.embedding.size and np.isfinite(row.embedding).all()]
    if not rows:
        return np.zeros((0, 2 * basis.frequencies.shape[1])), []
    groups: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault(row.session or f"\0{i}", []).append(i)
    phi = basis.phi(np.stack([row.embedding for row in rows]))
    means = np.stack([phi[members].mean(axis=0) for members in groups.values()])
    return means, [mean_scalars([rows[i].scalars for i in members]) for members in groups.values()]


def mean_scalars(scalars: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each scalar over those that have it."""
    if len(scalars) == 1:
        return dict(scalars[0])
    names = {name for each in scalars for name in each}
    return {name: float(np.mean([each[name] for each in scalars if name in each])) for name in sorted(names)}


def bootstrap_error(sessions: Array, rng: np.random.Generator) -> float:
    """eps_n: the 95 % quantile of the distance between the mean and its bootstrap resamples."""
    n = len(sessions)
    weights = rng.multinomial(n, np.full(n, 1.0 / n), NUM_RESAMPLES) / n
    return float(np.quantile(np.linalg.norm(weights @ sessions - sessions.mean(axis=0), axis=1), EPS_QUANTILE))


def unevenness(sessions: Array, rng: np.random.Generator) -> float:
    """delta: the 99 % quantile of the distance between the means of two random halves of the sessions."""
    n, half = len(sessions), len(sessions) // 2
    signs = np.tile(np.r_[np.full(half, 1.0 / half), np.full(n - half, -1.0 / (n - half))], (NUM_RESAMPLES, 1))
    return float(np.quantile(np.linalg.norm(rng.permuted(signs, axis=1) @ sessions, axis=1), DELTA_QUANTILE))


def _quantiles(scalars: Sequence[Mapping[str, float]]) -> dict[str, Quantiles]:
    """Of every scalar that every session has; the others cannot be compared."""
    names = sorted(set.intersection(*(set(each) for each in scalars)))
    error = SCALAR_ERROR / (2 * len(names)) if names else SCALAR_ERROR
    return {name: Quantiles.of([each[name] for each in scalars], error) for name in names}
