"""How sure a recall is of one memory, and what counts as known."""

from __future__ import annotations

import numpy as np

from .oja import Array

# Logistic weights, fitted by benchmarks/calibrate.py on the conversations named for tuning.
COSINE, COVERED, ACTIVATION, BIAS = 6.0, 3.0, 0.25, -5.0
KNOWN = 0.5
"""Confidence of the best memory from which a recall calls its answer known."""


def confidence(cosine: Array, covered: Array, activation: Array) -> Array:
    """(m,) float32 in 0..1, from the plain cosine with the cue, the share of the cue's idf mass
    that the unit's text holds, and the fused activation in standard deviations."""
    logit = COSINE * cosine + COVERED * covered + ACTIVATION * activation + BIAS
    out: Array = (1 / (1 + np.exp(-np.clip(logit, -30, 30)))).astype(np.float32)
    return out
