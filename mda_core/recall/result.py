"""From units to what a caller sees: which units a filter selects, and units as memories."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..event import Remembered, Within
from ..ledger import Ledger
from ..text.source import compile_filter
from .search import Hit

RECENT = 8
"""Occurrences of a memory that a recall shows."""
SCORE_HALF = 4.0
"""Activation in standard deviations that gives a score of one half."""


def select(
    ledger: Ledger, source: str | None, period: tuple[float, float] | None
) -> NDArray[np.bool_] | None:
    """(n,) bool, the units that a filter selects; None where it selects all of them.

    source: an MQTT filter. period: (low, high) in epoch seconds, inclusive; a unit is selected where one of
    its occurrences lies within. Raises BadInput for a bad filter.
    """
    if source is None and period is None:
        return None
    u = ledger.units
    chosen: NDArray[np.bool_] = u.memory > 0
    if source is not None:
        chosen &= ledger.index.sources.matching(compile_filter("source", source))[u.sources]
    if period is not None:
        low, high = period
        chosen &= (u.last >= low) & (u.first <= high)
        # Units that occurred before and after the period: the journal knows whether within it too.
        for slot in np.flatnonzero(chosen & (u.first < low) & (u.last > high)):
            found = ledger.journal.occurrences_within(int(u.tail[slot]), int(u.memory[slot]), low, high)
            chosen[slot] = found is not None
    return chosen


def remembered(
    ledger: Ledger, hits: Sequence[Hit], period: tuple[float, float] | None
) -> tuple[Remembered, ...]:
    """The memories in the units that were found, in their order, with their occurrences in a period."""
    u = ledger.units
    rows = ledger.store.texts([h.slot for h in hits])
    out = []
    for hit in hits:
        text, source = rows[hit.slot]
        memory = int(u.memory[hit.slot])
        tail = int(u.tail[hit.slot])
        past = ledger.journal.occurrences(tail, memory, RECENT)
        within = None if period is None else ledger.journal.occurrences_within(tail, memory, *period)
        out.append(
            Remembered(
                memory=memory,
                text=text,
                score=score(hit.activation),
                confidence=hit.confidence,
                via=hit.via,
                source=source,
                ids=tuple(dict.fromkeys(e.id for e in past if e.id is not None)),
                count=int(u.count[hit.slot]),
                first=float(u.first[hit.slot]),
                last=float(u.last[hit.slot]),
                recent=tuple(e.ts for e in past),
                within=None if within is None else Within(*within),
            )
        )
    return tuple(out)


def score(activation: float) -> float:
    """0 to 1, ascending with the activation in standard deviations: a / (a + 4), 0 for a negative one."""
    a = max(activation, 0.0)
    return a / (a + SCORE_HALF)
