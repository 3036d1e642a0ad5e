"""An inverted index: the positions of all terms of the units, sorted by hash bucket, in one fixed array."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .lexical import BUCKETS

UNSORTED_DIVISOR = 16
"""One unit in this many may have changed since the positions were sorted; changed units are scanned."""
MIN_UNSORTED = 256
"""Units that may have changed in a memory of any size."""
_PART = 4096


class Postings:
    """Finds a term in the array `terms` (n, t) uint32, 0 for no term, without a scan of all units.

    Nothing here is saved: it follows from the terms, and a search finds the same before and after `rebuild`.
    """

    def __init__(self, terms: NDArray[np.uint32]) -> None:
        self._terms = terms
        self._flat = terms.reshape(-1)
        self._sorted = np.zeros(self._flat.size, np.int32)
        self._starts = np.zeros(BUCKETS + 1, np.int64)
        self._unsorted: dict[int, None] = {}
        self._is_unsorted = np.zeros(len(terms), np.bool_)
        self._limit = max(MIN_UNSORTED, len(terms) // UNSORTED_DIVISOR)

    def changed(self, units: Sequence[int]) -> None:
        """The terms of `units` have changed. Sorts everything again after many such changes."""
        self._unsorted.update(dict.fromkeys(units))
        self._is_unsorted[list(units)] = True
        if len(self._unsorted) > self._limit:
            self.rebuild()

    def find(self, terms: Sequence[int]) -> list[NDArray[np.intp]]:
        """For each term the positions in the flattened array that hold it."""
        units = np.fromiter(self._unsorted, np.intp, len(self._unsorted))
        unsorted, width = self._terms[units], self._terms.shape[1]
        out = []
        for term in terms:
            bucket = term % BUCKETS
            at = self._sorted[self._starts[bucket] : self._starts[bucket + 1]].astype(np.intp)
            at = at[self._flat[at] == np.uint32(term)]
            if len(units):
                at = at[~self._is_unsorted[at // width]]
                row, column = np.nonzero(unsorted == np.uint32(term))
                at = np.concatenate([at, units[row] * width + column])
            out.append(at)
        return out

    def rebuild(self) -> NDArray[np.int64]:
        """Sort all positions by bucket: a counting sort, in parts so that it needs no second array.

        Returns how many positions each bucket has, (65536,).
        """
        self._unsorted.clear()
        self._is_unsorted[:] = False
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
