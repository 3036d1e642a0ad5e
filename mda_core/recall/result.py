"""From units to what a caller sees: which units a filter selects, and units as memories."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import StateDamaged
from ..event import Remembered, Within
from ..ledger import Ledger
from ..storage.rows import check_intact
from ..text.source import compile_filter
from .search import Hit

RECENT = 8
"""Occurrences of a memory that a recall shows."""
SCORE_HALF = 4.0
"""Activation in standard deviations that gives a score of one half."""


def select(
    ledger: Ledger,
    source: str | None,
    period: tuple[float, float] | None,
    progress: Callable[[], None] = lambda: None,
) -> NDArray[np.bool_] | None:
    """(n,) bool, the units that a filter selects; None where it selects all of them.

    source: an MQTT filter. period: (low, high) in epoch seconds, inclusive; a unit is selected where one of
    its occurrences lies within. progress: see `Ledger.occurrences`. Raises BadInput for a bad filter.
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
        around = chosen & (u.first < low) & (u.last > high)
        if around.any():
            chosen &= ~around | (ledger.occurrences(progress).counts(low, high, ledger.seq) > 0)
    return chosen


def remembered(
    ledger: Ledger,
    hits: Sequence[Hit],
    period: tuple[float, float] | None,
    progress: Callable[[], None] = lambda: None,
) -> tuple[Remembered, ...]:
    """The memories in the units that were found, in their order, with their occurrences in a period.

    progress: see `Ledger.occurrences`.
    """
    u = ledger.units
    slots = [h.slot for h in hits]
    rows = ledger.store.texts(slots)
    spans = _within(ledger, slots, period, progress)
    out = []
    for hit, within in zip(hits, spans, strict=True):
        text, source = rows[hit.slot]
        memory = int(u.memory[hit.slot])
        tail = int(u.tail[hit.slot])
        past = ledger.journal.occurrences(tail, memory, RECENT)
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
                within=within,
            )
        )
    return tuple(out)


def texts_of(ledger: Ledger, slots: Sequence[int]) -> tuple[str, ...]:
    """The texts in these slots; none where one is damaged, which must not keep it from being forgotten."""
    try:
        rows = ledger.store.texts(slots)
    except StateDamaged:
        return ()
    return tuple(rows[slot][0] for slot in slots)


def _within(
    ledger: Ledger,
    slots: Sequence[int],
    period: tuple[float, float] | None,
    progress: Callable[[], None],
) -> list[Within | None]:
    """The occurrences in a period of each of these units. Raises StateDamaged where the journal does not hold
    the first and the last of them as they were written."""
    if period is None or not slots:
        return [None] * len(slots)
    spans = ledger.occurrences(progress).spans(slots, *period, ledger.seq)
    for span in spans:
        for seq, ts in () if span is None else ((span.first_seq, span.first), (span.last_seq, span.last)):
            check_intact(ledger.store.path, "journal entry", seq, ledger.journal.time(seq) == ts)
    return [None if span is None else Within(span.count, span.first, span.last) for span in spans]


def score(activation: float) -> float:
    """0 to 1, ascending with the activation in standard deviations: a / (a + 4), 0 for a negative one."""
    a = max(activation, 0.0)
    return a / (a + SCORE_HALF)
