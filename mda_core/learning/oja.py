"""Oja's rule, for one unit and for the principal subspace of the stream. Pure functions over arrays.

Sources: E. Oja, "A simplified neuron model as a principal component analyzer", J. Math. Biol. 15
(1982); T. Sanger, "Optimal unsupervised learning in a single-layer linear feedforward neural
network", Neural Networks 2 (1989); J. Weng et al., "Candid covariance-free incremental PCA",
IEEE PAMI 25 (2003), whose amnesic 1/t rate replaces a hand-set one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

AMNESIA = 2.0
"""Weng's amnesic parameter l: the newest event weighs (1 + l) / t in place of 1/t; 2 to 4 in the paper."""
HORIZON = 16384
"""The t of the rate 1/t stops growing here, so that a change of topics is still followed."""


def reinforce(w: Array, x: Array, eta: float) -> None:
    """One step of Oja's rule in place: `w += eta * y * (x - y * w)` with `y = w . x`.

    w, x: (d,) float32. With |x| = 1 the rule brings |w| to 1 by itself. With eta = 1 and y = 1 it copies
    x into w (one-shot learning). w = x is a fixed point. Source: Oja 1982.
    """
    y = float(w @ x)
    w += np.float32(eta * y) * (x - np.float32(y) * w)


@lru_cache(maxsize=4)
def _below_diagonal(n: int) -> Array:
    return np.tri(n, k=-1, dtype=np.float32)


def orthonormal(v: Array) -> Array:
    """(r, d) float32: the rows of v (r, d) float32, orthonormalised in order (Gram-Schmidt, twice)."""
    out = v.copy()
    for i in range(len(out)):
        for _ in range(2):
            out[i] -= (out[:i] @ out[i]) @ out[:i]
        out[i] /= np.float32(max(float(np.sqrt(out[i] @ out[i])), 1e-12))
    return out


@dataclass(slots=True)
class Subspace:
    """Mean and principal directions of the stream as learned so far.

    mean (d,), basis (r, d) with unit rows, zero where not learned yet, variance (r,) along them, all
    float32. seen: events learned. total: mean squared distance to the mean, over all d directions.
    """

    mean: Array
    basis: Array
    variance: Array
    seen: int = 0
    total: float = 0.0

    @classmethod
    def empty(cls, dims: int, rank: int) -> Subspace:
        """`rank` directions of `dims` dimensions, nothing learned yet."""
        return cls(np.zeros(dims, np.float32), np.zeros((rank, dims), np.float32), np.zeros(rank, np.float32))

    def copy(self) -> Subspace:
        """A copy that shares no array with this one."""
        return Subspace(self.mean.copy(), self.basis.copy(), self.variance.copy(), self.seen, self.total)

    def step(self, x: Array) -> None:
        """Learn one event x (d,) float32, with Sanger's deflation and Weng's rate.

        Direction i gets u_i, the part of x - mean that the directions 0..i-1 do not explain, and moves by
        `l_i v_i <- (1 - a) l_i v_i + a y_i u_i` with y_i = v_i . u_i (Weng 2003, "candid"). The learned
        directions are not quite orthogonal, so y solves `y_i + sum_{j<i} (v_i . v_j) y_j = v_i . (x - mean)`.
        With y = V (x - mean) instead, later directions would collapse onto the first ones.
        """
        self.seen += 1
        t = min(self.seen, HORIZON)
        rate = np.float32((1 + AMNESIA) / t if t > 2 * AMNESIA + 1 else 1 / t)
        delta = x - self.mean
        self.mean += delta / np.float32(t)
        centred = x - self.mean
        self.total += (float(delta @ centred) - self.total) / t
        learned = min(max(self.seen - 2, 0), len(self.basis))
        v, variance = self.basis[:learned], self.variance[:learned]
        left = centred
        if learned:
            lower = _below_diagonal(learned)
            overlap = (v @ v.T) * lower
            np.fill_diagonal(overlap, 1)
            y = np.linalg.solve(overlap, v @ centred)
            explained = (lower * y) @ v  # row i: the part that directions 0..i-1 explain
            left = centred - explained[-1] - y[-1] * v[-1]
            v *= ((1 - rate) * variance)[:, None]
            v += (rate * y)[:, None] * (centred - explained)
            variance[:] = np.sqrt(np.einsum("ij,ij->i", v, v))
            v /= np.maximum(variance, np.float32(1e-12))[:, None]
        if 1 < self.seen <= len(self.basis) + 1:  # the next one starts where the others end
            square = float(left @ left)
            self.basis[learned] = left / np.float32(max(np.sqrt(square), 1e-6))
            self.variance[learned] = rate * np.float32(square)


@dataclass(frozen=True, slots=True)
class Metric:
    """A similarity in which the directions that the whole stream shares count less (partial whitening).

    A direction of variance l is scaled by `((l + mu) / mu) ** -alpha`, with mu the mean variance over all d
    directions. A vector x becomes `T (x - mean)` with T symmetric, so that
    `<T(q-m), T(x-m)> = x . p - m . p` with one probe `p = T^2 (q - m)` for all units.

    mean (d,), basis (r, d) orthonormal, scale (r,), all float32.
    """

    mean: Array
    basis: Array
    scale: Array

    @classmethod
    def of(cls, subspace: Subspace, alpha: float) -> Metric:
        """The metric of what a subspace has learned so far; alpha 0 is the plain cosine around the mean."""
        learned = int(np.count_nonzero(subspace.variance))
        basis = orthonormal(subspace.basis[:learned])  # T^2 in `probe` needs an exactly orthonormal basis
        variance = subspace.variance[:learned]
        mu = max(subspace.total / max(subspace.mean.shape[0], 1), 1e-9)
        scale = ((variance + np.float32(mu)) / np.float32(mu)) ** np.float32(-alpha)
        return cls(subspace.mean.copy(), basis, scale.astype(np.float32))

    def probe(self, q: Array) -> tuple[Array, float, float]:
        """(p, m . p, |T (q - m)|) for a query q (d,) float32."""
        centred = q - self.mean
        y = self.basis @ centred
        p = centred + ((self.scale**2 - 1) * y) @ self.basis
        return p, float(self.mean @ p), float(np.sqrt(max(float(centred @ p), 1e-12)))

    def scaled(self, x: Array) -> Array:
        """T x for the rows of x (n, d) float32 -> (n, d) float32; T is symmetric."""
        along: Array = x @ self.basis.T
        along *= self.scale - 1
        return x + along @ self.basis

    def transform(self, x: Array) -> Array:
        """T (x - m) for the rows of x (n, d) float32 -> (n, d) float32."""
        return self.scaled(x - self.mean)

    def norms(self, x: Array) -> Array:
        """|T (x - m)| for the rows of x (n, d) float32 -> (n,) float32."""
        y: Array = x @ self.basis.T
        y -= self.basis @ self.mean
        square = np.einsum("ij,ij->i", x, x) - 2 * (x @ self.mean) + float(self.mean @ self.mean)
        square += (y * y) @ (self.scale**2 - 1)
        out: Array = np.sqrt(np.maximum(square, 1e-12)).astype(np.float32)
        return out
