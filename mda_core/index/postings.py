"""Where each term stands: the positions of the units' terms, sorted by hash bucket, in one fixed array."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .lexical import BUCKETS

LATE_SHARE = 16
"""A unit in so many may have changed since the positions were sorted; those are looked through."""
LATE_LEAST = 256
_PART = 4096


class Postings:
    """Finds a term among (n, t) uint32 terms, 0 for none, without looking at all units.

    Nothing here is state: it follows from the terms, and a search finds the same before and after
    a rebuild.
    """

    def __init__(self, terms: NDArray[np.uint32]) -> None:
        self._terms = terms
        self._flat = terms.reshape(-1)
        self._sorted = np.zeros(self._flat.size, np.int32)
        self._starts = np.zeros(BUCKETS + 1, np.int64)
        self._late: dict[int, None] = {}
        self._is_late = np.zeros(len(terms), np.bool_)
        self._limit = max(LATE_LEAST, len(terms) // LATE_SHARE)

    def changed(self, unit: int) -> None:
        """The terms of `unit` are others from now on."""
        self._late[unit] = None
        self._is_late[unit] = True
        if len(self._late) > self._limit:
            self.rebuild()

    def find(self, terms: Sequence[int]) -> list[NDArray[np.intp]]:
        """For each term the positions in the flattened array that hold it."""
        units = np.fromiter(self._late, np.intp, len(self._late))
        late, width = self._terms[units], self._terms.shape[1]
        out = []
        for term in terms:
            bucket = term % BUCKETS
            at = self._sorted[self._starts[bucket] : self._starts[bucket + 1]].astype(np.intp)
            at = at[self._flat[at] == np.uint32(term)]
            if len(units):
                at = at[~self._is_late[at // width]]
                row, column = np.nonzero(late == np.uint32(term))
                at = np.concatenate([at, units[row] * width + column])
            out.append(at)
        return out

    def rebuild(self) -> NDArray[np.int64]:
        """Sort all positions anew by bucket: a counting sort, in parts to need no second array.

        Returns how many positions each bucket has, (65536,).
        """
        self._late.clear()
        self._is_late[:] = False
        parts = range(0, len(self._terms), _PART)
        counts = np.zeros(BUCKETS, np.int64)
        for part in parts:
            some = self._terms[part : part + _PART]
            counts += np.bincount(some[some != 0] % BUCKETS, minlength=BUCKETS)
        self._starts[1:] = np.cumsum(counts)
        place = self._starts[:-1].copy()
        for part in parts:
            some = self._terms[part : part + _PART].reshape(-1)
            at = np.flatnonzero(some)
            buckets = (some[at] % BUCKETS).astype(np.uint16)
            order = np.argsort(buckets, kind="stable")
            at, buckets = at[order], buckets[order]
            rank = np.arange(len(at)) - np.searchsorted(buckets, buckets)
            self._sorted[place[buckets] + rank] = at + part * self._terms.shape[1]
            place += np.bincount(buckets, minlength=BUCKETS)
        return counts
