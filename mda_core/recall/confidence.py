"""How sure a recall is of one memory, and from when on an answer counts as known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..learning.oja import Array

# Logistic weights, fitted by `python -m benchmarks.calibrate` on the LoCoMo conversations reserved for
# tuning: questions asked in their own conversation, in another one, and with only a part of it learned.
MATCH, MATCH_SQUARED, ACTIVATION, FEW_UNITS, BIAS = 37.8, -21.9, 3.49, 7.19, -24.5
PRIOR_UNITS = 8.0
"""Weight of the prior in every standardisation of a recall, in units: the spread of three memories says
little. Its fraction is PRIOR_UNITS / (units + PRIOR_UNITS), so with few units no activation becomes large."""
SIMILAR_GAIN, SIMILAR_FROM = 50.0, 0.55
"""An activation counts as at least SIMILAR_GAIN * (cosine * coverage - SIMILAR_FROM) standard deviations.
Where many memories say nearly the same, as of a door that opens all day, none of them stands out, although
each of them is an answer."""
FIRST = 5
"""The confidence of the best memory is the probability that the answer is among this many first ones."""
KNOWN = 0.4
"""Confidence of the best memory from which an answer counts as known."""


def match(cosine: Array, covered: Array) -> Array:
    """(m,) float32, 0 to 1: `1 - (1 - cosine)(1 - covered)`. Either similarity alone is enough.

    cosine (m,) float32: the plain cosine with the cue. covered (m,) float32: the fraction of the cue's summed
    idf whose terms the unit has.
    """
    out: Array = 1 - (1 - np.clip(cosine, 0, 1)) * (1 - covered)
    return out


def features(matched: Array, activation: Array, units: float | Array) -> NDArray[np.float64]:
    """(m, 5) float64: the inputs of the logistic function, in the order of its weights.

    matched (m,) from `match`; activation (m,) in standard deviations; units in use, one number or (m,).
    """
    best = -MATCH / (2 * MATCH_SQUARED)  # the maximum of the parabola: a better match must not count less
    e = np.minimum(matched, best).astype(np.float64)
    few = np.broadcast_to(PRIOR_UNITS / (units + PRIOR_UNITS), e.shape)
    return np.stack([e, e * e, np.log1p(np.maximum(activation, 0)), few, np.ones(len(e))], axis=1)


def confidence(cosine: Array, covered: Array, activation: Array, units: int) -> tuple[Array, Array]:
    """(confidence, own), both (m,) float32, 0 to 1, of the best m memories in order. All inputs (m,) float32;
    units in use.

    The confidence of the first one stands for the answer as a whole, with the best cosine and the best
    coverage of the first five. `own` is what each has by itself.
    """
    own = _probability(cosine, covered, activation, units)
    best = cosine[:FIRST].max(keepdims=True), covered[:FIRST].max(keepdims=True)
    return np.concatenate([_probability(*best, activation[:1], units), own[1:]]), own


def _probability(cosine: Array, covered: Array, activation: Array, units: int) -> Array:
    weights = np.array([MATCH, MATCH_SQUARED, ACTIVATION, FEW_UNITS, BIAS])
    activation = np.maximum(activation, SIMILAR_GAIN * (cosine * covered - SIMILAR_FROM))
    logit = features(match(cosine, covered), activation, units) @ weights
    out: Array = (1 / (1 + np.exp(-logit))).astype(np.float32)
    return out
