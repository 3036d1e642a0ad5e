"""The inverted index finds what a scan of all units finds."""

import numpy as np

from mda_core.index.lexical import BUCKETS
from mda_core.index.postings import MIN_UNSORTED, Postings


def test_finds_what_a_scan_finds_through_changes_and_rebuilds() -> None:
    rng = np.random.default_rng(0)
    terms = np.zeros((5000, 8), np.uint32)
    postings = Postings(terms)
    asked = [7, 7 + BUCKETS, 11, 12, 99999]
    for round_ in range(3 * MIN_UNSORTED):
        unit = int(rng.integers(len(terms)))
        found = rng.choice([*asked[:4], *range(20, 40)], size=rng.integers(0, 8), replace=False)
        terms[unit] = 0
        terms[unit, : len(found)] = found
        postings.changed([unit])
        if round_ % 50 == 0:
            for term, at in zip(asked, postings.find(asked), strict=True):
                np.testing.assert_array_equal(np.sort(at), np.flatnonzero(terms.reshape(-1) == term))
    postings.rebuild()
    for term, at in zip(asked, postings.find(asked), strict=True):
        np.testing.assert_array_equal(at, np.flatnonzero(terms.reshape(-1) == term))
