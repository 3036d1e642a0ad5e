"""What stays when the memory is full: retention of a unit, pure functions over arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .oja import Array

if TYPE_CHECKING:
    from .units import Units

QUESTION = 0.25
COUNT_GAIN = 0.5
RECENCY_GAIN = 0.2


def salience(surprise: Array, lengths: Array, asks: NDArray[np.bool_]) -> Array:
    """(n,) float32: surprise over sqrt(length + 3 words), a quarter less for a question."""
    out: Array = surprise / np.sqrt(lengths + np.float32(3)) * (1 - np.float32(QUESTION) * asks)
    return out


def retention(units: Units, seq: int) -> NDArray[np.float32]:
    """(n,) float32, larger is kept longer; infinite for what is pinned or free.

    Surprise, raised by the logarithm of the count and by recency, an exponential over one
    capacity's worth of events: both saturate, so neither habit nor novelty drowns the rest.
    """
    age = (seq - units.tail).astype(np.float32) / np.float32(max(units.capacity, 1))
    out = units.salience * (
        1 + np.float32(COUNT_GAIN) * np.log(np.maximum(units.count, 1).astype(np.float32))
    )
    out *= 1 + np.float32(RECENCY_GAIN) * np.exp(-age)
    out[units.pinned | (units.memory == 0)] = np.inf
    return out.astype(np.float32, copy=False)


def weakest(units: Units, seq: int) -> int:
    """The unit to forget: least retention, the oldest memory where several are equal."""
    kept = retention(units, seq)
    low = np.flatnonzero(kept == kept.min())
    return int(low[np.argmin(units.memory[low])])
