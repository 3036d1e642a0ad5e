"""How sure a recall is of one memory, and what counts as known."""

from __future__ import annotations

import numpy as np

from .oja import Array

# Logistic weights fitted by `python -m benchmarks.calibrate` on LoCoMo's conversations named for
# tuning: asked there, asked in another conversation, and with only a part of it learned.
COSINE, COVERED, ACTIVATION, BIAS = 8.5, 3.87, 0.13, -8.35
KNOWN = 0.2
"""Confidence of the best memory from which an answer is called known: there one question in twenty
about things never told passes, and one in twenty that was answered rightly does not."""


def confidence(cosine: Array, covered: Array, activation: Array) -> Array:
    """(m,) float32 in 0..1, from the plain cosine with the cue, the share of the cue's idf mass
    that the unit's text holds, and the fused activation in standard deviations."""
    logit = COSINE * cosine + COVERED * covered + ACTIVATION * activation + BIAS
    out: Array = (1 / (1 + np.exp(-np.clip(logit, -30, 30)))).astype(np.float32)
    return out
