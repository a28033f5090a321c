from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from monitoring.basis import NUM_FEATURES, Basis, get_or_create, load_basis
from registry.directory import DirectoryStore
from registry.errors import Corrupt, Invalid, NotFound

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(400, 96)) * np.linspace(3.0, 0.1, 96)


def test_features_have_norm_one_and_approximate_the_kernel() -> None:
    basis = Basis.fit(ROWS)
    phi = basis.phi(ROWS[:60])
    assert phi.shape == (60, NUM_FEATURES)
    np.testing.assert_allclose(np.linalg.norm(phi, axis=1), 1.0, atol=1e-9)
    u = (ROWS[:60] - basis.center) @ basis.whiten
    sigma = np.median(cdist(u, u)[np.triu_indices(60, 1)])
    np.testing.assert_allclose(phi @ phi.T, np.exp(-(cdist(u, u) ** 2) / (2 * sigma**2)), atol=0.12)


@settings(max_examples=20)
@given(st.integers(16, 80), st.integers(2, 40), st.integers(1, 64), st.integers(0, 5))
def test_any_size_fits_with_fewer_directions_where_rows_are_few(n: int, hidden: int, p: int, seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(n, hidden))
    basis = Basis.fit(rows, p=p)
    assert basis.whiten.shape == (hidden, min(p, n // 4, hidden))
    np.testing.assert_allclose(np.linalg.norm(basis.phi(rows * 1e3), axis=1), 1.0, atol=1e-9)


def test_directions_without_variance_do_no_harm() -> None:
    rows = np.zeros((64, 12))
    rows[:, 0] = np.linspace(-1, 1, 64)
    assert np.isfinite(Basis.fit(rows).phi(rows)).all()


def test_it_survives_bytes_and_has_one_identity() -> None:
    basis = Basis.fit(ROWS)
    again = Basis.from_bytes(basis.to_bytes())
    assert again.sha256 == basis.sha256 == Basis.fit(ROWS).sha256
    assert Basis.fit(ROWS, seed=1).sha256 != basis.sha256
    np.testing.assert_array_equal(again.phi(ROWS[:3]), basis.phi(ROWS[:3]))


def test_the_first_maker_wins(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    with pytest.raises(NotFound):
        load_basis(store, "ab")
    first = get_or_create(store, "ab", lambda: Basis.fit(ROWS))
    second = get_or_create(store, "ab", lambda: Basis.fit(ROWS, seed=9))
    assert first.sha256 == second.sha256 == load_basis(store, "ab").sha256


@pytest.mark.parametrize("rows", [ROWS[:8], ROWS[0], np.full((50, 3), np.nan), np.ones((50, 3))])
def test_useless_rows_are_refused(rows: np.ndarray) -> None:
    with pytest.raises(Invalid):
        Basis.fit(rows)


def test_vectors_of_another_base_are_refused() -> None:
    with pytest.raises(Invalid, match="96 numbers, got 95"):
        Basis.fit(ROWS).phi(ROWS[:2, :95])
    with pytest.raises(Corrupt):
        Basis.from_bytes(b"not a basis at all")
