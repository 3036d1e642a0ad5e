"""How sure a recall is of one memory, and what counts as known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..learning.oja import Array

# Logistic weights fitted by `python -m benchmarks.calibrate` on LoCoMo's conversations named for
# tuning: asked there, asked in another conversation, and with only a part of it learned.
MATCH, MATCH_SQUARED, ACTIVATION, FEW, BIAS = 37.8, -21.9, 3.49, 7.19, -24.5
SMALL = 8.0
"""Units' worth of prior in every standardisation of a recall, because with three memories their spread
says little. So where there are few an activation cannot become large: the share SMALL / (units + SMALL)."""
ALIKE, ALIKE_FROM = 50.0, 0.55
"""Activation, in standard deviations, that a memory has at least, for how far its cosine times its coverage
is above .55. Where much that is held says nearly the same, as of a door that is opened all day, nothing
stands out from the rest, though it says what was asked for."""
FIRST = 5
"""The confidence of the best memory is the chance that the answer is among the first five."""
KNOWN = 0.4
"""Confidence of the best memory from which an answer is called known."""


def match(cosine: Array, covered: Array) -> Array:
    """(m,) float32 in 0..1: 1 - (1 - cosine)(1 - covered). The same meaning is enough, and so are
    the same words. cosine (m,) is the plain one with the cue, covered (m,) the share of the cue's idf
    mass that the unit's text holds."""
    out: Array = 1 - (1 - np.clip(cosine, 0, 1)) * (1 - covered)
    return out


def features(matched: Array, activation: Array, units: float | Array) -> NDArray[np.float64]:
    """(m, 5) float64: what the logistic weights are for; activation (m,) in standard deviations,
    units in use."""
    best = -MATCH / (2 * MATCH_SQUARED)  # above, the square would turn it down again
    e = np.minimum(matched, best).astype(np.float64)
    few = np.broadcast_to(SMALL / (units + SMALL), e.shape)
    return np.stack([e, e * e, np.log1p(np.maximum(activation, 0)), few, np.ones(len(e))], axis=1)


def confidence(cosine: Array, covered: Array, activation: Array, units: int) -> Array:
    """(m,) float32 in 0..1 of the best m memories in order, of a memory with so many units in use.

    The first speaks for the answer as a whole, with the best cosine and the best coverage of the
    first five; the others speak for themselves.
    """
    cosine, covered = cosine.copy(), covered.copy()
    cosine[0], covered[0] = cosine[:FIRST].max(), covered[:FIRST].max()
    weights = np.array([MATCH, MATCH_SQUARED, ACTIVATION, FEW, BIAS])
    activation = np.maximum(activation, ALIKE * (cosine * covered - ALIKE_FROM))
    logit = features(match(cosine, covered), activation, units) @ weights
    out: Array = (1 / (1 + np.exp(-logit))).astype(np.float32)
    return out
