"""What is kept when the memory is full: salience and retention of units. Pure functions over arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..text.features import QUESTION, SECOND_PERSON, TIME_WORDS
from .oja import Array

if TYPE_CHECKING:
    from .units import Units

DETAILS_EXPONENT = 0.2
"""Exponent of one plus the information in names and numbers."""
FEATURE_EXPONENTS = {TIME_WORDS: 0.35, SECOND_PERSON: -0.25, QUESTION: -0.4}
"""What each feature of a text adds to the exponent of its salience, times its count."""
COUNT_GAIN = 0.5
"""Weight of the logarithm of the count."""
RECENCY_GAIN = 0.2
"""Weight of the recency."""
COUNT_DECAY = 8
"""Capacities' worth of events after which the count of a memory that does not occur any more weighs e times
less; a power of two."""
NEWEST_DIVISOR = 32
"""The newest memories, one for every 32 units, are given at least the average weight of the count. Otherwise
a memory full of frequent events would learn nothing new."""


def salience(surprise: Array, named: Array, lengths: Array, features: NDArray[np.uint8]) -> Array:
    """(n,) float32: how much information a text has that is worth keeping.

    `surprise * (1 + named)^.2 / sqrt(words + 3)`, times e^.35 for each word of time, e^-.25 for each word
    that addresses somebody and e^-.4 for a question.

    surprise, named, lengths (n,) float32: the summed squared idf of all terms and of names and numbers, and
    the number of words; features (n, 5) uint8. The exponents come from a Poisson regression of how often a
    turn is evidence for an answer, on the conversations reserved for tuning.
    """
    weights = np.array(list(FEATURE_EXPONENTS.values()), np.float32)
    exponent = features[:, list(FEATURE_EXPONENTS)] @ weights
    out: Array = np.exp(exponent) * surprise / np.sqrt(lengths + np.float32(3))
    out *= (1 + named) ** np.float32(DETAILS_EXPONENT)
    return out


def retention(units: Units, seq: int) -> NDArray[np.float32]:
    """(n,) float32, larger is kept longer; infinite for pinned and free units. seq: the newest entry.

    `salience * (1 + .5 ln(count) e^(-age / 8)) * (1 + .2 e^-age)`, with the age of the last occurrence in
    capacities' worth of events. Count and recency saturate, so that neither frequent nor new events
    displace all others.
    """
    decay = (seq - units.tail).astype(np.float32)
    decay *= np.float32(-1 / (COUNT_DECAY * max(units.capacity, 1)))
    np.exp(decay, out=decay)
    out: Array = np.maximum(units.count, 1).astype(np.float32)
    np.log(out, out=out)
    out *= decay
    newest = np.flatnonzero(units.memory > units.memory.max() - units.capacity // NEWEST_DIVISOR)
    out[newest] = np.maximum(out[newest], out.sum() / max(units.used, 1))
    out *= np.float32(COUNT_GAIN)
    out += 1
    out *= units.salience
    for _ in range(COUNT_DECAY.bit_length() - 1):  # squared three times: e^(-age / 8) becomes e^(-age)
        decay *= decay
    decay *= np.float32(RECENCY_GAIN)
    decay += 1
    out *= decay
    out[units.pinned | (units.memory == 0)] = np.inf
    return out


def eviction_candidate(units: Units, seq: int, giving_way: NDArray[np.bool_]) -> int:
    """The unit to evict: of those that give way (n,) bool the one with the least retention, the oldest memory
    where several are equal."""
    kept = retention(units, seq)
    kept[~giving_way] = np.inf
    low = np.flatnonzero(kept == kept.min())
    return int(low[np.argmin(units.memory[low])])
