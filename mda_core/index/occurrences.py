"""When each unit occurred: the times in the journal as arrays, so that a period is one pass over them.

Nothing here is saved: it follows from the journal, and is read from it when a period is first asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from ..storage.rows import ALLOCATE, EVICT, REPEAT, Entry

NEVER = np.iinfo(np.int64).max
"""In place of the entry that a unit was allocated with, where the unit is free."""
_PART = 1 << 16
_AT_ONCE = 4096
_ENTRY = np.dtype([("seq", np.int64), ("slot", np.int64), ("memory", np.int64), ("time", np.float64)])


@dataclass(frozen=True, slots=True)
class Span:
    """The occurrences of one unit in a period: how many, the epoch seconds of the earliest and of the latest,
    and the numbers of their journal entries."""

    count: int
    first: float
    last: float
    first_seq: int
    last_seq: int


class Occurrences:
    """The occurrences in a ring of `size` journal entries, of a memory with a capacity of `units`.

    Entry number `seq` is in row `seq` modulo `size`, as in the journal: times (size,) float64 in epoch
    seconds, NaN where the entry is no occurrence; slots (size,) uint16 or uint32. born (units,) int64 is the
    number of the entry that each unit was allocated with, or 0 for one that the ring holds no more: entries
    before it are those of the unit that had the slot before. 10 bytes a row, and 8 a unit.
    """

    def __init__(self, size: int, units: int) -> None:
        self._times = np.empty(size, np.float64)
        self._slots = np.empty(size, np.uint16 if units <= 1 << 16 else np.uint32)
        self._born = np.empty(units, np.int64)
        self.filled = False
        """Whether this holds what the journal holds."""
        self._clear()  # touches every page now, so that the RAM in use does not grow later

    def _clear(self) -> None:
        self._times.fill(np.nan)
        self._slots.fill(0)
        self._born.fill(NEVER)

    def fill(self, entries: Iterable[tuple[int, int, int, float]], memory: NDArray[np.int64]) -> None:
        """Take over the occurrences in the journal, (seq, slot, memory, time) each, in any order.

        memory (units,): the number of the memory that each slot holds. Others are left out.
        """
        self.filled = False
        self._clear()
        self._born[memory > 0] = 0
        entries = iter(entries)
        while len(part := np.fromiter(islice(entries, _AT_ONCE), _ENTRY)):
            part = part[(part["slot"] >= 0) & (part["slot"] < len(memory))]
            part = part[memory[part["slot"]] == part["memory"]]
            at = part["seq"] % len(self._times)
            self._times[at], self._slots[at] = part["time"], part["slot"]
        self.filled = True

    def append(self, entry: Entry) -> None:
        """The journal has got a new entry."""
        row = entry.seq % len(self._times)
        self._times[row] = entry.ts if entry.op in (ALLOCATE, REPEAT) else np.nan
        self._slots[row] = entry.slot
        if entry.op == ALLOCATE:
            self._born[entry.slot] = entry.seq
        elif entry.op == EVICT:
            self._born[entry.slot] = NEVER

    def withdraw(self, seq: int) -> None:
        """The occurrence `seq` was taken back."""
        self._times[seq % len(self._times)] = np.nan

    def drop(self, seq: int, slots: Sequence[int]) -> None:
        """The units in `slots` were forgotten, which took the numbers from `seq` on in place of entries."""
        at = np.arange(seq, seq + len(slots)) % len(self._times)
        self._times[at], self._slots[at] = np.nan, 0
        self._born[list(slots)] = NEVER

    def drop_orphans(self, newest: int) -> None:
        """Drop the occurrences that belong to no unit any more; newest: number of the newest entry."""
        for part in range(0, len(self._times), _PART):
            at = np.arange(part, min(part + _PART, len(self._times)))
            gone = at[self._numbers(at, newest) < self._born[self._slots[at]]]
            self._times[gone], self._slots[gone] = np.nan, 0

    def counts(self, low: float, high: float, newest: int) -> NDArray[np.int64]:
        """(units,) how often each unit occurred from `low` to `high`, both included, in epoch seconds.

        newest: number of the newest entry.
        """
        out = np.zeros(len(self._born), np.int64)
        for at in self._within(low, high, newest):
            out += np.bincount(self._slots[at], minlength=len(out))
        return out

    def spans(self, slots: Sequence[int], low: float, high: float, newest: int) -> list[Span | None]:
        """The occurrences of each of these units from `low` to `high`, None where there is none."""
        place = np.full(len(self._born), -1, np.intp)
        place[list(slots)] = np.arange(len(slots))
        count = np.zeros(len(slots), np.int64)
        first, last = np.full(len(slots), np.inf), np.full(len(slots), -np.inf)
        first_seq, last_seq = np.zeros(len(slots), np.int64), np.zeros(len(slots), np.int64)
        for at in self._within(low, high, newest, place >= 0):
            of, times, numbers = place[self._slots[at]], self._times[at], self._numbers(at, newest)
            count += np.bincount(of, minlength=len(slots))
            np.minimum.at(first, of, times)
            np.maximum.at(last, of, times)
            for seq, end in ((first_seq, first), (last_seq, last)):
                there = times == end[of]
                seq[of[there]] = numbers[there]
        return [
            Span(int(count[i]), float(first[i]), float(last[i]), int(first_seq[i]), int(last_seq[i]))
            if count[i]
            else None
            for i in range(len(slots))
        ]

    def _within(
        self, low: float, high: float, newest: int, wanted: NDArray[np.bool_] | None = None
    ) -> Iterator[NDArray[np.intp]]:
        """The rows of the occurrences from `low` to `high`, in parts: all at once would need much RAM.

        wanted (units,): of these units alone; None for all.
        """
        for part in range(0, len(self._times), _PART):
            times = self._times[part : part + _PART]
            inside = (times >= low) & (times <= high)
            if wanted is not None:
                inside &= wanted[self._slots[part : part + _PART]]
            at = np.flatnonzero(inside) + part
            yield at[self._numbers(at, newest) >= self._born[self._slots[at]]]

    def _numbers(self, at: NDArray[np.intp], newest: int) -> NDArray[np.int64]:
        """The numbers of the entries in the rows `at`: the newest that fall on each row."""
        out: NDArray[np.int64] = newest - (newest - at) % len(self._times)
        return out
