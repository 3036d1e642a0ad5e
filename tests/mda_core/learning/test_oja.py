"""Oja's rule and the subspace, against slow, obvious references."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mda_core.learning.oja import AMNESIA, HORIZON, Metric, Subspace, orthonormal, reinforce


def stream(n: int, d: int, seed: int = 0) -> NDArray[np.float32]:
    """n unit vectors with a mean and a spectrum that falls off, as sentence vectors have."""
    rng = np.random.default_rng(seed)
    mix = np.linalg.qr(rng.normal(size=(d, d)))[0] * (0.85 ** np.arange(d))
    x = rng.normal(size=(n, d)) @ mix.T + 0.3 * mix[:, 0]
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def sequential_ccipca(x: NDArray[np.float32], r: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weng's algorithm 1, one direction after the other."""
    d = x.shape[1]
    v, lam, mean = np.zeros((r, d)), np.zeros(r), np.zeros(d)
    for t, event in enumerate(x.astype(np.float64), 1):
        mean += (event - mean) / min(t, HORIZON)
        rate = (1 + AMNESIA) / t if t > 2 * AMNESIA + 1 else 1 / t
        u = event - mean
        for i in range(min(t - 1, r)):
            if i == t - 2:
                lam[i] = rate * (u @ u)
                v[i] = u / np.sqrt(u @ u)
                break
            y = u @ v[i]
            moved = (1 - rate) * lam[i] * v[i] + rate * y * u
            u = u - y * v[i]
            lam[i] = np.linalg.norm(moved)
            v[i] = moved / lam[i]
    return v, lam


@pytest.mark.parametrize("eta", [1.0, 0.5, 0.02])
def test_a_unit_stands_still_on_its_own_vector(eta: float) -> None:
    x = stream(1, 16)[0]
    w = x.copy()
    for _ in range(200):
        reinforce(w, x, eta)
    np.testing.assert_allclose(w, x, atol=1e-6)


def test_a_unit_turns_towards_its_inputs_and_stays_near_the_unit_sphere() -> None:
    w, x = stream(2, 16)
    for _ in range(500):
        reinforce(w, x, 0.05)
        assert 0.7 < np.linalg.norm(w) < 1.3
    np.testing.assert_allclose(abs(float(w @ x)), 1, atol=1e-3)


@pytest.mark.parametrize(("n", "d", "r"), [(3, 8, 4), (60, 16, 4), (400, 32, 8), (400, 24, 24)])
def test_the_step_is_sequential_deflation(n: int, d: int, r: int) -> None:
    x = stream(n, d)
    subspace = Subspace.empty(d, r)
    for event in x:
        subspace.step(event)
    v, lam = sequential_ccipca(x, r)
    np.testing.assert_allclose(subspace.variance, lam, rtol=0.02, atol=1e-5)
    leading = lam > 0.05 * lam[0]
    np.testing.assert_allclose(np.abs(np.einsum("ij,ij->i", subspace.basis, v))[leading], 1, atol=0.02)


def test_the_leading_directions_are_those_of_batch_pca() -> None:
    x = stream(3000, 32)
    subspace = Subspace.empty(32, 8)
    for event in x:
        subspace.step(event)
    batch = np.linalg.svd(x - x.mean(0), full_matrices=False)[2]
    overlap = np.linalg.norm(orthonormal(subspace.basis)[:4] @ batch[:6].T, axis=1)
    assert overlap.min() > 0.97
    assert subspace.total == pytest.approx(np.square(x - x.mean(0)).sum(1).mean(), rel=0.02)
    np.testing.assert_allclose(subspace.mean, x.mean(0), atol=1e-3)


@pytest.mark.parametrize("events", [0, 1, 2, 3])
def test_a_subspace_of_few_events_is_finite(events: int) -> None:
    subspace = Subspace.empty(8, 4)
    for event in stream(events, 8):
        subspace.step(event)
    assert np.isfinite(subspace.basis).all()
    assert np.count_nonzero(subspace.variance) == max(events - 1, 0)


def test_a_change_of_topics_is_followed_however_much_was_learned_before() -> None:
    """The mean moves to the new topic at the rate of the horizon, as far as that says."""
    subspace = Subspace.empty(4, 2)
    old, new = np.eye(4, dtype=np.float32)[:2]
    subspace.mean[:] = old
    subspace.seen = 1_000_000
    for _ in range(4096):
        subspace.step(new)
    assert float(subspace.mean @ new) == pytest.approx(1 - np.exp(-4096 / 16384), abs=0.01)


def test_identical_events_leave_no_direction() -> None:
    subspace = Subspace.empty(8, 4)
    for _ in range(50):
        subspace.step(stream(1, 8)[0])
    assert np.isfinite(subspace.basis).all()
    assert subspace.variance.max() < 1e-9


def test_the_metric_is_the_cosine_of_the_transformed_vectors() -> None:
    x = stream(200, 16)
    subspace = Subspace.empty(16, 6)
    for event in x:
        subspace.step(event)
    metric = Metric.of(subspace, 0.3)
    transform = np.eye(16) + metric.basis.T @ np.diag(metric.scale - 1) @ metric.basis
    moved = (x - metric.mean) @ transform
    q = stream(1, 16, seed=9)[0]
    probe, offset, norm = metric.probe(q)
    cosine = (x @ probe - offset) / (np.linalg.norm(metric.transform(x), axis=1) * norm)
    expected = moved @ ((q - metric.mean) @ transform)
    expected /= np.linalg.norm(moved, axis=1) * np.linalg.norm((q - metric.mean) @ transform)
    np.testing.assert_allclose(cosine, expected, atol=1e-4)
    assert (np.diff(metric.scale[:3]) > 0).all()  # the more variance, the smaller the scale
