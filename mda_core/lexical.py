"""Lexical match: BM25 over the units' terms, all in fixed arrays.

Source: S. Robertson, H. Zaragoza, "The probabilistic relevance framework: BM25 and beyond" (2009).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

K1 = 1.2
B = 0.4
"""Length normalisation: events are short, and a long one is long because it says more."""
BUCKETS = 1 << 16
NAMED = 128
"""Bit of a term's frequency: it names something (a name, a number)."""


class Frequencies:
    """In how many units a term occurs, by hash bucket: (65536,) int32, exact up to collisions.

    Term 0 is none.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(BUCKETS, np.int32)

    def add(self, terms: Iterable[int], by: int) -> None:
        for term in terms:
            if term:
                self.counts[term % BUCKETS] += by

    def idf(self, terms: Sequence[int], units: int) -> list[float]:
        """log(1 + (N - f + 1/2) / (f + 1/2)) of each term among N units."""
        found = (min(int(self.counts[t % BUCKETS]), units) for t in terms)
        return [math.log1p((units - f + 0.5) / (f + 0.5)) for f in found]

    def surprise(self, terms: NDArray[np.uint32], times: NDArray[np.uint8], units: int) -> Array:
        """The surprise of each row of terms (n, t) uint32, where 0 is no term; (n,) float32.

        The sum of squared idf (one rare term says more than two of half its rarity), twice for
        what names something, which `times` (n, t) uint8 marks with NAMED.
        """
        table = np.arange(units + 1, dtype=np.float64)
        table = np.square(np.log1p((units - table + 0.5) / (table + 0.5))).astype(np.float32)
        out = np.empty(len(terms), np.float32)
        for part in range(0, len(terms), 1024):  # the temporaries of all units at once would cost RAM
            some = terms[part : part + 1024]
            weights = table[np.minimum(self.counts[some % BUCKETS], units)]
            weights *= 1 + (times[part : part + 1024] >> 7)
            out[part : part + 1024] = np.where(some == 0, np.float32(0), weights).sum(axis=1)
        return out


def bm25(
    query: Sequence[int],
    idf: Sequence[float],
    terms: NDArray[np.uint32],
    frequencies: NDArray[np.uint8],
    lengths: Array,
    mean_length: float,
) -> tuple[Array, Array]:
    """(scores, coverage), both (n,) float32, of units with terms (n, t) for the query's terms.

    coverage is the share of the query's idf mass that a unit holds, 0 to 1.
    """
    scores = np.zeros(len(terms), np.float32)
    covered = np.zeros(len(terms), np.float32)
    flat = terms.reshape(-1)
    for term, weight in zip(query, idf, strict=True):
        at = np.flatnonzero(flat == np.uint32(term))
        if not len(at):
            continue
        unit = at // terms.shape[1]
        tf = (frequencies.reshape(-1)[at] & (NAMED - 1)).astype(np.float32)
        norm = K1 * (1 - B + B * lengths[unit] / max(mean_length, 1.0))
        scores[unit] += np.float32(weight) * tf * (K1 + 1) / (tf + norm)
        covered[unit] += np.float32(weight)
    mass = sum(idf)
    if mass > 0:
        covered /= np.float32(mass)
    return scores, covered
