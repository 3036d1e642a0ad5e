"""Lexical match: BM25 over the units' terms, all in fixed arrays.

Source: S. Robertson, H. Zaragoza, "The probabilistic relevance framework: BM25 and beyond" (2009).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

K1 = 0.9
B = 0.2
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

    def surprise(
        self, terms: NDArray[np.uint32], times: NDArray[np.uint8], units: int
    ) -> tuple[Array, Array]:
        """(surprise, named), both (n,) float32, of the rows of terms (n, t) uint32, 0 for no term.

        The sum of squared idf (one rare term says more than two of half its rarity): of all terms,
        and of those that name something, which `times` (n, t) uint8 marks with NAMED.
        """
        out, named = np.empty(len(terms), np.float32), np.empty(len(terms), np.float32)
        for part in range(0, len(terms), 1024):  # the temporaries of all units at once would cost RAM
            some = terms[part : part + 1024]
            held = np.minimum(self.counts[some % BUCKETS], units).astype(np.float32)
            weights = np.square(np.log1p((units + np.float32(0.5) - held) / (held + np.float32(0.5))))
            weights[some == 0] = 0
            out[part : part + 1024] = weights.sum(axis=1)
            named[part : part + 1024] = (weights * (times[part : part + 1024] >> 7)).sum(axis=1)
        return out, named


def bm25(
    found: Sequence[NDArray[np.intp]],
    idf: Sequence[float],
    frequencies: NDArray[np.uint8],
    lengths: Array,
    mean_length: float,
) -> tuple[Array, Array]:
    """(scores, coverage), both (n,) float32, of n units for the terms of a query.

    found: for each term the positions in the flattened `frequencies` (n, t) that hold it; idf: its
    weight. coverage is the share of the query's idf mass that a unit holds, 0 to 1.
    """
    scores = np.zeros(len(lengths), np.float32)
    covered = np.zeros(len(lengths), np.float32)
    flat, width = frequencies.reshape(-1), frequencies.shape[1]
    for at, weight in zip(found, idf, strict=True):
        unit = at // width
        tf = (flat[at] & (NAMED - 1)).astype(np.float32)
        norm = K1 * (1 - B + B * lengths[unit] / max(mean_length, 1.0))
        scores[unit] += np.float32(weight) * tf * (K1 + 1) / (tf + norm)
        covered[unit] += np.float32(weight)
    mass = sum(idf)
    if mass > 0:
        covered /= np.float32(mass)
    return scores, covered
