"""Modern Hopfield retrieval: a softmax over the best units, and one step that sharpens a cue.

Source: H. Ramsauer et al., "Hopfield networks is all you need", ICLR 2021 (arXiv:2008.02217):
`q <- X^T softmax(beta X q)`; here the activation may combine several kinds of similarity.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def softmax(activation: Array, beta: float) -> Array:
    """softmax(beta * activation), (n,) float32 for (n,) float32; sums to 1, shift-invariant."""
    e: Array = np.exp(np.float32(beta) * (activation - activation.max()))
    e /= e.sum()
    return e


def sharpen(q: Array, keys: Array, activation: Array, *, beta: float, step: float) -> Array:
    """One partial Hopfield step: `q + step * softmax(beta a)^T keys`, normalised, (d,) float32.

    q (d,), keys (m, d) and activation (m,) of the best units, all float32.
    """
    out: Array = q + np.float32(step) * (softmax(activation, beta) @ keys)
    out /= np.float32(max(float(np.linalg.norm(out)), 1e-12))
    return out
