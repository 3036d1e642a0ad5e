"""The keys as the stream's metric sees them: cosines exact, and for many units coarse first.

Nothing here is state: it follows from the keys and the metric.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .oja import Array, Metric

EXACT_UNITS = 8192
"""A memory of more units is searched along `DIRECTIONS` of the keys first."""
DIRECTIONS = 64
SAMPLE = 4096
COSINE_LIMIT = 1.01
_PART = 1024


class Meaning:
    """Cosines of a cue with the keys (n, d) float32, in the metric where there is one.

    For memories of more than `EXACT_UNITS` a table (64, n) float32 holds the keys along the 64
    directions in which they differ most, seen in the metric: a product with it reads a sixth of
    what the keys take.
    """

    def __init__(self, keys: Array) -> None:
        n, d = keys.shape
        self._keys = keys
        self.metric: Metric | None = None
        self._norms: Array = np.ones(n, np.float32)
        self._unmeasured = np.zeros(n, np.bool_)
        self._directions: Array | None = None
        self._directions_of = 0
        self._table: Array | None = None
        if n > EXACT_UNITS:
            self._table = np.zeros((min(DIRECTIONS, d), n), np.float32)

    def adopt(self, metric: Metric, top: int) -> None:
        """Use this metric from now on, and measure the first `top` units in it: now, so that no
        recall has to wait for it."""
        self.metric = metric
        self._unmeasured[:] = True
        self.measure(top)

    def changed(self, unit: int) -> None:
        """The key of `unit` is another one; nothing of the old one stays."""
        self._unmeasured[unit] = True
        self._norms[unit] = 1.0
        if self._table is not None:
            self._table[:, unit] = 0.0

    def cosines(self, cue: Array, top: int) -> Array:
        """(top,) float32: with each of the first `top` units, exactly."""
        self.measure(top)
        return self._cosines(cue, slice(0, top))

    def cosines_of(self, cue: Array, units: NDArray[np.intp]) -> Array:
        """(m,) float32: with the given units (m,), exactly; `measure` was called since they changed."""
        return self._cosines(cue, units)

    def coarse(self, cue: Array, top: int) -> Array | None:
        """(top,) float32: what the strongest directions tell of the first `top` units; None where
        there is no table."""
        self.measure(top)
        if self._directions is None or self.metric is None:
            return None
        assert self._table is not None
        seen = self.metric.transform(cue[None])[0]
        along: Array = self._directions @ (seen / np.float32(max(float(np.linalg.norm(seen)), 1e-12)))
        out: Array = along @ self._table[:, :top]
        return out

    def measure(self, top: int) -> None:
        """Bring norms and table up to date for the first `top` units: all of them after a new metric,
        else the few that changed."""
        if self.metric is None:
            return
        if self._table is not None and top > EXACT_UNITS and top >= 2 * self._directions_of:
            self._directions = self._strongest(self.metric, top)
            self._directions_of = top
            self._unmeasured[:] = True
        units = np.flatnonzero(self._unmeasured[:top])
        along = None if self._directions is None else self.metric.scaled(self._directions)
        for part in range(0, len(units), _PART):
            some = units[part : part + _PART]
            keys = self._keys[some]
            norms = self.metric.norms(keys)
            self._norms[some] = norms
            if self._table is not None and along is not None:
                self._table[:, some] = (along @ keys.T - (along @ self.metric.mean)[:, None]) / norms
        self._unmeasured[units] = False

    def _strongest(self, metric: Metric, top: int) -> Array:
        """(64, d) float32: where `SAMPLE` of the keys differ most, by the eigenvectors of their
        second moments in the metric."""
        assert self._table is not None
        seen = metric.transform(self._keys[: top : -(-top // SAMPLE)])
        seen /= np.maximum(np.linalg.norm(seen, axis=1, keepdims=True), 1e-6)
        _, vectors = np.linalg.eigh(seen.T @ seen)
        strongest: Array = np.ascontiguousarray(vectors[:, : -len(self._table) - 1 : -1].T)
        return strongest

    def _cosines(self, cue: Array, units: slice | NDArray[np.intp]) -> Array:
        keys = self._keys[units]
        with np.errstate(over="ignore", invalid="ignore"):
            if self.metric is None:
                out: Array = keys @ cue
            else:
                probe, offset, norm = self.metric.probe(cue)
                out = keys @ probe
                out -= np.float32(offset)
                out /= self._norms[units] * np.float32(norm)
            # Outside of -1 to 1 is no cosine: bits of this key have flipped. Its words still count.
            out[~(np.abs(out) <= COSINE_LIMIT)] = 0.0
        return out
