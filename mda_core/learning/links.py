"""Links: learned associations between units that were active close together. Pure functions.

Each unit keeps its `f` strongest associates: `partner` (n, f) int32 with -1 for none, `weight`
(n, f) float32. The weights follow Oja's rule for one output and its presynaptic traces y_j,
`w_ij += eta * a_i * (y_j - a_i * w_ij)` with a_i = 1, so each stays within 0 and 1 and settles at
how often, and how shortly, j came before or after i.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Ints = NDArray[np.int32]


def wire(
    partner: Ints, weight: Array, unit: int, before: Sequence[tuple[int, float]], eta: Mapping[int, float]
) -> None:
    """Unit `unit` became active while the traces `before` [(unit, trace 0..1)] were still warm.

    `eta` gives the learning rate of each unit concerned. Both directions are learned: what came
    before a unit, and what came after it. The weakest associate gives way to a stronger one.
    """
    partners, weights = partner[unit].tolist(), (weight[unit] * (1 - eta[unit])).tolist()
    for other, trace in before:
        if other == unit:
            continue
        _strengthen(partners, weights, other, eta[unit] * trace)
        theirs, held = partner[other].tolist(), weight[other].tolist()
        known = held[theirs.index(unit)] if unit in theirs else 0.0
        _strengthen(theirs, held, unit, eta[other] * (trace - known))
        partner[other], weight[other] = theirs, held
    partner[unit], weight[unit] = partners, weights


def _strengthen(partners: list[int], weights: list[float], other: int, gain: float) -> None:
    if other in partners:
        at = partners.index(other)
        weights[at] = min(max(weights[at] + gain, 0.0), 1.0)
    else:
        at = weights.index(min(weights))
        if gain > weights[at]:
            partners[at], weights[at] = other, min(gain, 1.0)


def cut(partner: Ints, weight: Array, unit: int) -> NDArray[np.intp]:
    """Remove every link from and to `unit`; the units whose links changed, rising."""
    partner[unit], weight[unit] = -1, 0.0
    at = np.flatnonzero(partner.reshape(-1) == unit)
    partner.reshape(-1)[at], weight.reshape(-1)[at] = -1, 0.0
    return np.array(sorted({unit, *(at // partner.shape[1]).tolist()}), np.intp)


def spread(
    partner: Ints,
    weight: Array,
    count: Ints,
    units: NDArray[np.intp],
    activation: Array,
    sending: NDArray[np.intp],
    *,
    threshold: float,
    gain: float,
) -> None:
    """One pass along the links, added to the activation (m,) of the units (m,), rising slots:
    `a_i += gain * sum_j w_ji sqrt(min(1, n_j / n_i)) max(a_j - threshold, 0)` over those of them that
    send, given by their places (s,), n being the counts.

    Only what exceeds the threshold travels: a unit that the cue hardly touches says nothing about
    its neighbours, neither for nor against them. w_ji is how often i is near when j happens; the
    root makes it the cosine of the two occurrences, or what happens all day would be near everything.
    """
    slots = units[sending]
    sent = np.float32(gain) * np.maximum(activation[sending] - np.float32(threshold), 0)
    to = partner[slots]
    often = np.sqrt(np.minimum(count[slots][:, None] / np.maximum(count[to], 1), 1))
    parts = weight[slots] * sent[:, None] * often
    place = np.minimum(np.searchsorted(units, to), len(units) - 1)
    ok = units[place] == to
    activation += np.bincount(place[ok], parts[ok], minlength=len(units)).astype(np.float32)
