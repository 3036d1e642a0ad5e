"""Semantic similarity: cosines of a cue with the keys in the stream's metric; in large memories a coarse
search first.

Nothing here is saved: it follows from the keys and the metric.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..learning.oja import Array, Metric

EXACT_UNITS = 8192
"""A memory of more units is searched along `DIRECTIONS` of the keys first."""
DIRECTIONS = 48
"""Rows of the table for the coarse search."""
SAMPLE = 4096
"""Keys from which moments and directions are estimated."""
COSINE_LIMIT = 1.01
"""A larger cosine, which rounding cannot give, comes from a damaged key."""
_PART = 1024


class SemanticIndex:
    """Cosines of a cue with the keys (n, d) float32, in a metric once there is one.

    In a memory of more than `EXACT_UNITS` units a table (48, n) float32 holds the keys along the 48
    directions in which they differ most in the metric. A product with it reads an eighth of the bytes of
    the keys.
    """

    def __init__(self, keys: Array) -> None:
        n, d = keys.shape
        self._keys = keys
        self.metric: Metric | None = None
        self._norms: Array = np.ones(n, np.float32)
        self._outdated = np.zeros(n, np.bool_)
        self._directions: Array | None = None
        self._directions_of = 0
        self._mean: Array | None = None
        self._second_moments: Array | None = None
        self._table: Array | None = None
        if n > EXACT_UNITS:
            self._table = np.empty((min(DIRECTIONS, d), n), np.float32)
            self._table.fill(0)  # touches every page now, so that the RAM in use does not grow later

    def set_metric(self, metric: Metric, top: int) -> None:
        """Use this metric, and update the first `top` units for it at once, so that no recall has to."""
        self.metric = metric
        self._outdated[:] = True
        self.update(top)

    def keys_changed(self, units: Sequence[int]) -> None:
        """The keys of `units` have changed. Nothing of the old ones stays here."""
        changed = np.array(units, np.intp)
        self._outdated[changed] = True
        self._norms[changed] = 1.0
        if self._table is not None:
            self._table[:, changed] = 0.0

    def cosines(self, cue: Array, units: slice | NDArray[np.intp]) -> Array:
        """The exact cosines (m,) float32 of a cue (d,) with these units; `update` was called since they
        changed."""
        keys = self._keys[units]
        if self.metric is None:
            plain: Array = keys @ cue
            return valid_cosines(plain)
        probe, offset, norm = self.metric.probe(cue)
        out: Array = keys @ probe
        out -= np.float32(offset)
        out /= self._norms[units] * np.float32(norm)
        return valid_cosines(out)

    def coarse_cosines(self, cue: Array, top: int) -> Array | None:
        """The cosines (top,) float32 of a cue (d,) with the first `top` units along the strongest
        directions alone; None where there is no table."""
        if self._directions is None or self.metric is None:
            return None
        assert self._table is not None
        along: Array = self._directions @ self._unit_transform(cue)
        out: Array = along @ self._table[:, :top]
        return valid_cosines(out)

    def moments(self, cue: Array) -> tuple[float, float]:
        """(mean, variance) of the cosines of a cue (d,) with all units, estimated from the moments of
        `SAMPLE` units at the last change of the metric."""
        assert self._mean is not None and self._second_moments is not None
        transformed = self._unit_transform(cue)
        mean = float(transformed @ self._mean)
        square = float(transformed @ self._second_moments @ transformed)
        return mean, max(square - mean * mean, 0.0)

    def _unit_transform(self, cue: Array) -> Array:
        """The cue (d,) in the metric, normalised."""
        assert self.metric is not None
        transformed = self.metric.transform(cue)
        out: Array = transformed / np.float32(max(float(np.linalg.norm(transformed)), 1e-12))
        return out

    def update(self, top: int) -> None:
        """Update norms and table of the first `top` units: of all after a change of the metric, else of the
        few whose keys have changed."""
        if self.metric is None:
            return
        units = np.flatnonzero(self._outdated[:top])
        if not len(units):
            return
        if self._table is not None and top > EXACT_UNITS and len(units) > top // 2:
            units = self._estimate_directions(self.metric, top, units)
        along = None if self._directions is None else self.metric.scaled(self._directions)
        for part in range(0, len(units), _PART):
            some = units[part : part + _PART]
            keys = self._keys[some]
            norms = self.metric.norms(keys)
            self._norms[some] = norms
            if self._table is not None and along is not None:
                self._table[:, some] = (along @ keys.T - (along @ self.metric.mean)[:, None]) / norms
        self._outdated[units] = False

    def _estimate_directions(self, metric: Metric, top: int, units: NDArray[np.intp]) -> NDArray[np.intp]:
        """Estimate the moments in a new metric from `SAMPLE` keys. Where the units have doubled since the
        last time, estimate also the directions in which they differ most: the eigenvectors of the second
        moments. Returns the units to update."""
        assert self._table is not None
        sample = metric.transform(self._keys[: top : -(-top // SAMPLE)])
        sample /= np.maximum(np.linalg.norm(sample, axis=1, keepdims=True), np.float32(1e-6))
        self._mean, self._second_moments = sample.mean(axis=0), sample.T @ sample / np.float32(len(sample))
        if top < 2 * self._directions_of:
            return units
        _, vectors = np.linalg.eigh(self._second_moments)
        self._directions = np.ascontiguousarray(vectors[:, : -len(self._table) - 1 : -1].T)
        self._directions_of = top
        return np.arange(top)


def valid_cosines(cosines: Array) -> Array:
    """The same array, with values outside of -1 to 1 set to 0 in place: bits of those keys have flipped.
    Their words still count."""
    cosines[~(np.abs(cosines) <= COSINE_LIMIT)] = 0.0
    return cosines
