"""The keys as the stream's metric sees them: cosines exact, and for many units coarse first.

Nothing here is state: it follows from the keys and the metric.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..learning.oja import Array, Metric

EXACT_UNITS = 8192
"""A memory of more units is searched along `DIRECTIONS` of the keys first."""
DIRECTIONS = 48
SAMPLE = 4096
COSINE_LIMIT = 1.01
_PART = 1024


class Meaning:
    """Cosines of a cue with the keys (n, d) float32, in the metric where there is one.

    For memories of more than `EXACT_UNITS` a table (48, n) float32 holds the keys along the 48
    directions in which they differ most, seen in the metric: a product with it reads an eighth
    of what the keys take.
    """

    def __init__(self, keys: Array) -> None:
        n, d = keys.shape
        self._keys = keys
        self.metric: Metric | None = None
        self._norms: Array = np.ones(n, np.float32)
        self._unmeasured = np.zeros(n, np.bool_)
        self._directions: Array | None = None
        self._directions_of = 0
        self._middle: Array | None = None
        self._second: Array | None = None
        self._table: Array | None = None
        if n > EXACT_UNITS:
            self._table = np.empty((min(DIRECTIONS, d), n), np.float32)
            self._table.fill(0)  # touches every page now

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

    def cosines(self, cue: Array, units: slice | NDArray[np.intp]) -> Array:
        """(m,) float32: with the given units, exactly; `measure` was called since they changed."""
        keys = self._keys[units]
        if self.metric is None:
            plain: Array = keys @ cue
            return sane(plain)
        probe, offset, norm = self.metric.probe(cue)
        out: Array = keys @ probe
        out -= np.float32(offset)
        out /= self._norms[units] * np.float32(norm)
        return sane(out)

    def coarse(self, cue: Array, top: int) -> Array | None:
        """(top,) float32: what the strongest directions tell of the first `top` units; None where
        there is no table."""
        if self._directions is None or self.metric is None:
            return None
        assert self._table is not None
        along: Array = self._directions @ self._seen(cue)
        out: Array = along @ self._table[:, :top]
        return sane(out)

    def moments(self, cue: Array) -> tuple[float, float]:
        """(mean, variance) of the cosines with all units, from the moments of `SAMPLE` of them as of
        the last metric."""
        assert self._middle is not None and self._second is not None
        seen = self._seen(cue)
        mean = float(seen @ self._middle)
        return mean, max(float(seen @ self._second @ seen) - mean * mean, 0.0)

    def _seen(self, cue: Array) -> Array:
        """The cue (d,) in the metric, at unit length."""
        assert self.metric is not None
        seen = self.metric.transform(cue)
        out: Array = seen / np.float32(max(float(np.linalg.norm(seen)), 1e-12))
        return out

    def measure(self, top: int) -> None:
        """Bring norms and table up to date for the first `top` units: all of them after a new metric,
        else the few that changed."""
        if self.metric is None:
            return
        units = np.flatnonzero(self._unmeasured[:top])
        if not len(units):
            return
        if self._table is not None and top > EXACT_UNITS and len(units) > top // 2:
            units = self._survey(self.metric, top, units)
        along = None if self._directions is None else self.metric.scaled(self._directions)
        for part in range(0, len(units), _PART):
            some = units[part : part + _PART]
            keys = self._keys[some]
            norms = self.metric.norms(keys)
            self._norms[some] = norms
            if self._table is not None and along is not None:
                self._table[:, some] = (along @ keys.T - (along @ self.metric.mean)[:, None]) / norms
        self._unmeasured[units] = False

    def _survey(self, metric: Metric, top: int, units: NDArray[np.intp]) -> NDArray[np.intp]:
        """Take the moments of `SAMPLE` keys in a new metric, and where there are twice as many units
        as last time the directions in which they differ most: the eigenvectors of the second moments.
        Returns the units to measure."""
        assert self._table is not None
        seen = metric.transform(self._keys[: top : -(-top // SAMPLE)])
        seen /= np.maximum(np.linalg.norm(seen, axis=1, keepdims=True), np.float32(1e-6))
        self._middle, self._second = seen.mean(axis=0), seen.T @ seen / np.float32(len(seen))
        if top < 2 * self._directions_of:
            return units
        _, vectors = np.linalg.eigh(self._second)
        self._directions = np.ascontiguousarray(vectors[:, : -len(self._table) - 1 : -1].T)
        self._directions_of = top
        return np.arange(top)


def sane(cosines: Array) -> Array:
    """The same, with 0 for what is outside of -1 to 1: bits of that key have flipped. Its words still
    count."""
    cosines[~(np.abs(cosines) <= COSINE_LIMIT)] = 0.0
    return cosines
