"""The last word on the order of the best units: details among near-equals, and newer facts before older."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..learning.oja import Array

ALIKE = 0.9
"""Cosine of two keys from which only details tell their texts apart."""
FOREMOST = 4
"""Only among so many best units does a newer fact come before an older one."""
LATER = 1800.0
"""Seconds: within one session the second text seldom corrects the first."""

# Whether a newer text takes the place of an older one, from the differences between the two: logistic
# weights fitted on half of the cases in benchmarks/cases/updates.jsonl, with turns of conversations
# as counterexamples.
COSINE, NEARER, SHARED, COVERS_MORE = 2.55, 4.38, 1.79, 2.42
BOTH_NUMBERED, NUMBER_LOST, BIAS = 1.72, -1.93, -1.72


def by_detail(keys: Array, place: NDArray[np.intp]) -> NDArray[np.intp]:
    """A new order (m,) of m units with these keys (m, d): those that mean almost the same swap
    places among themselves until their `place` (m,) by details is rising.

    "on" and "off", 4711 and 4712 hardly move a sentence's vector: there the words decide.
    """
    alike = keys @ keys.T >= ALIKE
    out = np.arange(len(keys))
    placed = np.zeros(len(keys), np.bool_)
    for leader in range(len(keys)):
        if not placed[leader]:
            group = np.flatnonzero(alike[leader] & ~placed)
            placed[group] = True
            out[group] = group[np.argsort(place[group], kind="stable")]
    return out


@dataclass(frozen=True, slots=True)
class Candidates:
    """The m best units in order: keys (m, d), cosine with the cue (m,), covered share of its idf
    mass (m,), last (m,) epoch seconds, named (m,) how many of its names and numbers a unit holds,
    numbered and denies (m,) whether it holds a number, or a negation, at all, terms (m, t) uint32."""

    keys: Array
    cosine: Array
    covered: Array
    last: NDArray[np.float64]
    named: NDArray[np.intp]
    numbered: NDArray[np.uint8]
    denies: NDArray[np.uint8]
    terms: NDArray[np.uint32]


def newest_first(best: Candidates) -> NDArray[np.intp]:
    """A new order (m,): the best unit gives way to a newer one of the next three that takes its place.

    The newer one must be about the same (cosine of the keys, shared terms), answer the cue as well
    (cosine and covered), tell a number where the older one does, deny where it denies, and hold each
    name and number that the older one shares with the cue.
    """
    m = min(FOREMOST, len(best.keys))
    between = best.keys[:m] @ best.keys[0]
    logit = COSINE * between + NEARER * (best.cosine[:m] - best.cosine[0]) + BIAS
    logit += COVERS_MORE * (best.covered[:m] - best.covered[0])
    logit += SHARED * np.array([_overlap(best.terms[0], row) for row in best.terms[:m]])
    if best.numbered[0]:
        logit += np.where(best.numbered[:m], BOTH_NUMBERED, NUMBER_LOST)
    instead = (logit > 0) & (between < ALIKE) & (best.named[:m] >= best.named[0])
    instead &= best.denies[:m] == best.denies[0]
    newer = np.flatnonzero(instead & (best.last[:m] > best.last[0] + LATER))
    order = np.arange(len(best.keys))
    if len(newer):
        first = newer[np.argmax(best.last[newer])]
        order[: first + 1] = np.roll(order[: first + 1], 1)
    return order


def _overlap(one: NDArray[np.uint32], other: NDArray[np.uint32]) -> float:
    """Jaccard's index of two rows of terms, 0 for no term."""
    a, b = set(one.tolist()) - {0}, set(other.tolist()) - {0}
    return len(a & b) / max(len(a | b), 1)
