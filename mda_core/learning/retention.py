"""What stays when the memory is full: retention of a unit, pure functions over arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..text.features import ADDRESSED, ASKS, DATED
from .oja import Array

if TYPE_CHECKING:
    from .units import Units

NAMES = 0.2
TONE = {DATED: 0.35, ADDRESSED: -0.25, ASKS: -0.4}
"""The exponent that a word, or the text, of each manner adds."""
COUNT_GAIN = 0.5
RECENCY_GAIN = 0.2
HABIT = 8
"""Capacities' worth of events after which a habit that ended counts e times less; a power of two."""
YOUNG_SHARE = 32
"""One in so many units is of the newest memories. They are taken for as habitual as the others are on
average: else a memory full of habits would learn nothing new any more."""


def salience(surprise: Array, named: Array, lengths: Array, manner: NDArray[np.uint8]) -> Array:
    """(n,) float32: how much a text tells that is worth keeping.

    surprise * (1 + named)^.2 / sqrt(words + 3), times e^.35 for each word that says when,
    e^-.25 for each that addresses somebody and e^-.4 for a question. surprise, named and lengths
    (n,) float32, manner (n, 5) uint8. The exponents come from a Poisson regression of how often a
    turn is evidence, on the conversations named for tuning.
    """
    tone = manner[:, list(TONE)] @ np.array(list(TONE.values()), np.float32)
    out: Array = np.exp(tone) * surprise / np.sqrt(lengths + np.float32(3))
    out *= (1 + named) ** np.float32(NAMES)
    return out


def retention(units: Units, seq: int) -> NDArray[np.float32]:
    """(n,) float32, larger is kept longer; infinite for what is pinned or free.

    Surprise, raised by the logarithm of the count and by recency, an exponential over one
    capacity's worth of events: both saturate, so neither habit nor novelty drowns the rest. What
    does not happen any more counts less and less for how often it did.
    """
    fading = (seq - units.tail).astype(np.float32)
    fading *= np.float32(-1 / (HABIT * max(units.capacity, 1)))
    np.exp(fading, out=fading)
    out: Array = np.maximum(units.count, 1).astype(np.float32)
    np.log(out, out=out)
    out *= fading
    young = np.flatnonzero(units.memory > units.memory.max() - units.capacity // YOUNG_SHARE)
    out[young] = np.maximum(out[young], out.sum() / max(units.used, 1))
    out *= np.float32(COUNT_GAIN)
    out += 1
    out *= units.salience
    for _ in range(HABIT.bit_length() - 1):  # squared until it is e^(-age)
        fading *= fading
    fading *= np.float32(RECENCY_GAIN)
    fading += 1
    out *= fading
    out[units.pinned | (units.memory == 0)] = np.inf
    return out


def weakest(units: Units, seq: int) -> int:
    """The unit to forget: least retention, the oldest memory where several are equal."""
    kept = retention(units, seq)
    low = np.flatnonzero(kept == kept.min())
    return int(low[np.argmin(units.memory[low])])
