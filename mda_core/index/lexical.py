"""Lexical similarity: BM25 over the terms of the units, in fixed arrays.

Source: S. Robertson, H. Zaragoza, "The probabilistic relevance framework: BM25 and beyond" (2009).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

K1 = 0.9
"""Saturation of the term frequency."""
B = 0.2
"""Length normalisation, weaker than usual: events are short, and a long one is long because it says more."""
BUCKETS = 1 << 16
"""Hash buckets of the frequencies."""
NAMED = 128
"""Bit in a term's frequency of a detail: a name or a number."""


class Frequencies:
    """Document frequencies: in how many units a term occurs, exact up to hash collisions.

    counts (65536,) int32, by hash bucket. Term 0 stands for no term.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(BUCKETS, np.int32)

    def add(self, terms: NDArray[np.uint32], by: int) -> None:
        """Count the terms of units, of any shape: `by` 1 for new ones, -1 for those that are removed."""
        np.add.at(self.counts, terms[terms != 0] % BUCKETS, by)

    def idf(self, terms: Sequence[int], units: int) -> list[float]:
        """The idf of each term, `log(1 + (N - f + 1/2) / (f + 1/2))`: f of N units have the term."""
        found = (min(int(self.counts[t % BUCKETS]), units) for t in terms)
        return [math.log1p((units - f + 0.5) / (f + 0.5)) for f in found]

    def surprise(
        self, terms: NDArray[np.uint32], frequencies: NDArray[np.uint8], units: int
    ) -> tuple[Array, Array]:
        """(surprise, named), both (n,) float32: the information in the terms of each unit.

        surprise is the sum of the squared idf of all terms, named that of the details alone. Squared,
        because one rare term says more than two of half its idf. terms (n, t) uint32, 0 for no term;
        frequencies (n, t) uint8, with the bit NAMED for details; units: how many there are.
        """
        out, named = np.empty(len(terms), np.float32), np.empty(len(terms), np.float32)
        for part in range(0, len(terms), 1024):  # temporaries for all units at once would need too much RAM
            some = terms[part : part + 1024]
            held = np.minimum(self.counts[some % BUCKETS], units).astype(np.float32)
            weights = np.square(np.log1p((units + np.float32(0.5) - held) / (held + np.float32(0.5))))
            weights[some == 0] = 0
            out[part : part + 1024] = weights.sum(axis=1)
            named[part : part + 1024] = (weights * (frequencies[part : part + 1024] >> 7)).sum(axis=1)
        return out, named


def bm25(
    found: Sequence[NDArray[np.intp]],
    idf: Sequence[float],
    frequencies: NDArray[np.uint8],
    lengths: Array,
    mean_length: float,
) -> tuple[Array, Array]:
    """(scores, coverage), both (n,) float32, of n units for the terms of a query.

    scores are those of BM25; coverage, 0 to 1, is the fraction of the query's summed idf whose terms a
    unit has. found: for each term the positions in the flattened `frequencies` (n, t) uint8 that hold it;
    idf: its weight; lengths (n,) float32 in words.
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
