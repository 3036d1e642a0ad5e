"""The final order of the best units: details decide between near-equals, newer facts come before older."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..learning.oja import Array

NEAR_EQUAL = 0.9
"""Cosine of two keys from which on only details tell their texts apart."""
FOREMOST = 4
"""A newer fact may come before an older one only among this many best units."""
LATER = 1800.0
"""Seconds by which the fact must be newer: within one session the second text seldom corrects the first."""

# Logistic weights for whether a newer text replaces an older one, from the differences between the two.
# Fitted on half of the cases in benchmarks/cases/updates.jsonl; turns of conversations are counterexamples.
COSINE, NEARER, SHARED, COVERS_MORE = 2.55, 4.38, 1.79, 2.42
BOTH_NUMBERED, NUMBER_LOST, BIAS = 1.72, -1.93, -1.72


def by_detail(keys: Array, place: NDArray[np.intp]) -> NDArray[np.intp]:
    """A new order (m,) of m units with the keys (m, d) float32: units that are nearly equal swap places among
    themselves, until their `place` (m,), the order by details, is ascending.

    "on" and "off", 4711 and 4712 hardly change the vector of a sentence: there the words decide.
    """
    near_equal = keys @ keys.T >= NEAR_EQUAL
    out = np.arange(len(keys))
    placed = np.zeros(len(keys), np.bool_)
    for leader in range(len(keys)):
        if not placed[leader]:
            group = np.flatnonzero(near_equal[leader] & ~placed)
            placed[group] = True
            out[group] = group[np.argsort(place[group], kind="stable")]
    return out


@dataclass(frozen=True, slots=True)
class Candidates:
    """The m best units in order.

    keys (m, d) float32; cosine (m,) float32 with the cue; covered (m,) float32, the fraction of the cue's
    summed idf whose terms the unit has; last (m,) float64 epoch seconds; named (m,), how many names and
    numbers of the cue the unit has; numbered and negated (m,) uint8, whether its text has any number or
    negation; terms (m, t) uint32, 0 for no term.
    """

    keys: Array
    cosine: Array
    covered: Array
    last: NDArray[np.float64]
    named: NDArray[np.intp]
    numbered: NDArray[np.uint8]
    negated: NDArray[np.uint8]
    terms: NDArray[np.uint32]


def newest_first(best: Candidates) -> NDArray[np.intp]:
    """A new order (m,): a newer unit among the next three comes first where it replaces the best one.

    It must be about the same thing (cosine of the keys, shared terms) and answer the cue as well (cosine,
    coverage). It must have a number where the older one has one, be negated where that is, and have each name
    and number that the older one shares with the cue.
    """
    m = min(FOREMOST, len(best.keys))
    similarity = best.keys[:m] @ best.keys[0]
    logit = COSINE * similarity + NEARER * (best.cosine[:m] - best.cosine[0]) + BIAS
    logit += COVERS_MORE * (best.covered[:m] - best.covered[0])
    logit += SHARED * np.array([_overlap(best.terms[0], row) for row in best.terms[:m]])
    if best.numbered[0]:
        logit += np.where(best.numbered[:m], BOTH_NUMBERED, NUMBER_LOST)
    replaces = (logit > 0) & (similarity < NEAR_EQUAL) & (best.named[:m] >= best.named[0])
    replaces &= best.negated[:m] == best.negated[0]
    newer = np.flatnonzero(replaces & (best.last[:m] > best.last[0] + LATER))
    order = np.arange(len(best.keys))
    if len(newer):
        first = newer[np.argmax(best.last[newer])]
        order[: first + 1] = np.roll(order[: first + 1], 1)
    return order


def _overlap(one: NDArray[np.uint32], other: NDArray[np.uint32]) -> float:
    """Jaccard index of two rows of terms, 0 for no term."""
    a, b = set(one.tolist()) - {0}, set(other.tolist()) - {0}
    return len(a & b) / max(len(a | b), 1)
