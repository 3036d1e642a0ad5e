"""Which source gives way when the memory is full: max-min fairness, so that a source that tells much competes
with itself first. Pure functions over arrays.

A share is an equal part of what can be evicted, first among the top levels of the sources present (`hall` of
`hall/back_door`), then among the sources under each. What a source leaves of its share is used by the others,
and given back as soon as it is wanted. Sources: D. Bertsekas, R. Gallager, "Data Networks", 1992, section
6.5.2; for pins A. Choudhury, E. Hahne, "Dynamic queue length thresholds for shared-memory packet switches",
IEEE/ACM Trans. Networking 6 (1998).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MAX_PINNED = 0.9
"""Fraction of the capacity that can be pinned: there must be something left to evict."""
TOP_LEVEL_GAIN = 2
"""The sources under one top level may pin this many times what is still free for pins, each of them once
that. So each source finds half of what those before it have left, and one alone cannot take everything."""

Ints = NDArray[np.integer]


def giving_way(held: Ints, top: Ints, source: int) -> NDArray[np.bool_]:
    """(m,) bool: the sources one of whose units gives way to a new one of `source`.

    held (m,): how many units each source has that can be evicted; top (m,): the number of its top level.

    Where its top level holds less than its share, the newcomer takes from those that hold more than theirs;
    otherwise from its own top level. Within a top level the sources with at least their share of it give way;
    in its own the newcomer's source alone, unless that holds less.
    """
    held = held.astype(np.int64)
    by_top = np.bincount(top, weights=held).astype(np.int64)
    present = by_top > 0
    present[top[source]] = True
    own, total = int(by_top[top[source]]), int(held.sum())
    over = by_top * np.count_nonzero(present) > total
    there = held > 0
    there[source] = True
    sources = np.bincount(top[there], minlength=len(by_top))
    full = there & (held * sources[top] >= by_top[top])
    if own * np.count_nonzero(present) < total:
        out: NDArray[np.bool_] = over[top] & full
    elif full[source]:
        out = np.zeros(len(held), np.bool_)
        out[source] = True
    else:
        out = (top == top[source]) & full
    return out


def may_pin(pinned: Ints, top: Ints, source: int, capacity: int) -> bool:
    """Whether `source` may pin one more unit. pinned (m,): how many each source has pinned; top (m,)."""
    free = int(MAX_PINNED * capacity) - int(pinned.sum())
    together = int(pinned[top == top[source]].sum())
    return int(pinned[source]) < free and together < TOP_LEVEL_GAIN * free
