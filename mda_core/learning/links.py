"""Links: learned associations between units that were active shortly after one another. Pure functions.

Each unit keeps its f strongest associates: `partner` (n, f) int32 with -1 for none, `weight` (n, f) float32.
The weights follow Oja's rule for one output and its presynaptic eligibility traces y_j,
`w_ij += eta * a_i * (y_j - a_i * w_ij)` with a_i = 1. So each weight stays between 0 and 1 and settles at how
often, and how closely, j came before or after i.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Ints = NDArray[np.int32]


def strengthen_links(
    partner: Ints, weight: Array, unit: int, traces: Sequence[tuple[int, float]], eta: Mapping[int, float]
) -> None:
    """Learn, in place, that `unit` became active while the `traces` [(unit, trace 0..1)] lasted.

    eta: the learning rate of each unit concerned. Both directions are learned: which units come before
    `unit`, and that `unit` comes after them. A new link replaces the link with the least weight where it
    is stronger.
    """
    partners, weights = partner[unit].tolist(), (weight[unit] * (1 - eta[unit])).tolist()
    for other, trace in traces:
        if other == unit:
            continue
        _add_weight(partners, weights, other, eta[unit] * trace)
        its_partners, its_weights = partner[other].tolist(), weight[other].tolist()
        known = its_weights[its_partners.index(unit)] if unit in its_partners else 0.0
        _add_weight(its_partners, its_weights, unit, eta[other] * (trace - known))
        partner[other], weight[other] = its_partners, its_weights
    partner[unit], weight[unit] = partners, weights


def _add_weight(partners: list[int], weights: list[float], other: int, gain: float) -> None:
    if other in partners:
        at = partners.index(other)
        weights[at] = min(max(weights[at] + gain, 0.0), 1.0)
    else:
        at = weights.index(min(weights))
        if gain > weights[at]:
            partners[at], weights[at] = other, min(gain, 1.0)


def remove_links(partner: Ints, weight: Array, units: Sequence[int]) -> NDArray[np.intp]:
    """Remove every link from and to `units`, in place. Returns the units whose links changed, ascending."""
    removed = np.array(units, np.intp)
    partner[removed], weight[removed] = -1, 0.0
    flat = partner.reshape(-1)
    if len(removed) == 1:
        at = np.flatnonzero(flat == int(units[0]))
    else:
        is_removed = np.zeros(len(partner) + 1, np.bool_)
        is_removed[removed] = True
        at = np.flatnonzero(is_removed[flat])  # -1, for no link, is the last entry
    flat[at], weight.reshape(-1)[at] = -1, 0.0
    return np.union1d(removed, at // partner.shape[1])


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
    """One step of spreading activation, added in place to the activation (m,) float32 of the units (m,):
    `a_i += gain * sum_j w_ji sqrt(min(1, n_j / n_i)) max(a_j - threshold, 0)`, with the counts n.

    units: slots, ascending. sending (s,): positions in `units` of those that send.

    Only activation above the threshold spreads: a unit that hardly matches the cue says nothing about its
    neighbours, neither for nor against them. w_ji is how often i is near when j occurs. The square root
    makes it the cosine of the two occurrences; without it a unit that occurs all day would be near all.
    """
    slots = units[sending]
    sent = np.float32(gain) * np.maximum(activation[sending] - np.float32(threshold), 0)
    to = partner[slots]
    often = np.sqrt(np.minimum(count[slots][:, None] / np.maximum(count[to], 1), 1))
    parts = weight[slots] * sent[:, None] * often
    place = np.minimum(np.searchsorted(units, to), len(units) - 1)
    ok = units[place] == to
    activation += np.bincount(place[ok], parts[ok], minlength=len(units)).astype(np.float32)
