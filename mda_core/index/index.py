"""What finds a unit by something other than its vector: identity, memory id, terms, source.

All of it follows from the rows on disk and is built from them on open.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np

from ..event import Event
from ..learning.oja import Array
from ..learning.retention import salience
from ..learning.units import CHUNK, TERMS, Units
from ..storage.rows import UnitRow
from ..text.features import KINDS, manner
from ..text.terms import details, identity, length, surface, terms
from .lexical import NAMED, Frequencies
from .postings import Postings
from .sourcetable import SourceTable

MOVED = 0
"""In place of a text's hash: the key is no text's vector any more, Oja's rule has moved it."""

_PACKED = np.dtype(
    [("terms", np.uint32, TERMS), ("frequencies", np.uint8, TERMS), ("manner", np.uint8, KINDS)]
)
"""What a row's `terms` are."""


class Index:
    """The lookups of one memory; bounded by its capacity."""

    def __init__(self, units: Units) -> None:
        self._units = units
        self.frequencies = Frequencies()
        self.postings = Postings(units.terms)
        self.sources = SourceTable()
        self._slot_of: dict[int, int] = {}
        self._identities = np.zeros(units.capacity, np.int64)
        self._surfaces = np.zeros(units.capacity, np.int64)
        self._free = list(range(units.capacity))

    def __len__(self) -> int:
        return len(self._slot_of)

    def find(self, event: Event) -> int | None:
        """The unit that knows this event already, by identity of text and source."""
        return self._slot_of.get(identity(event.text, event.source))

    def find_memory(self, memory: int) -> int | None:
        """The unit that holds the memory of this number."""
        at = np.flatnonzero(self._units.memory == memory)
        return int(at[0]) if len(at) else None

    def holds(self, event: Event) -> bool:
        """Whether a unit knows this event and its key is the vector of this very text."""
        slot = self.find(event)
        return slot is not None and int(self._surfaces[slot]) == surface(event.text)

    def moved(self, slot: int) -> None:
        """The key of `slot` is no text's vector any more."""
        self._surfaces[slot] = MOVED

    def take_free(self) -> int | None:
        """The lowest free slot, None where the memory is full."""
        return heapq.heappop(self._free) if self._free else None

    def row(self, slot: int, memory: int, event: Event, x: Array) -> UnitRow:
        """What the disk is to keep of a new unit; x (d,) float32."""
        found = terms(f"{event.text} {event.source.replace('/', ' ').replace('_', ' ')}")
        kept = self._rarest(list(found))
        named = details(event.text)
        packed, times = np.zeros(TERMS, np.uint32), np.zeros(TERMS, np.uint8)
        packed[: len(kept)] = kept
        times[: len(kept)] = [min(found[t], NAMED - 1) | (NAMED if t in named else 0) for t in kept]
        return UnitRow(
            slot=slot,
            memory=memory,
            text=event.text,
            source=event.source,
            identity=identity(event.text, event.source),
            surface=surface(event.text),
            length=length(event.text),
            terms=packed.tobytes() + times.tobytes() + bytes(manner(event.text)),
            key=x.tobytes(),
        )

    def add(self, row: UnitRow) -> None:
        self._enter([row])
        self.frequencies.add(self._units.terms[row.slot].tolist(), 1)
        self.postings.changed(row.slot)

    def _enter(self, rows: Sequence[UnitRow]) -> None:
        u = self._units
        slots = [row.slot for row in rows]
        packed = np.frombuffer(b"".join([row.terms for row in rows]), _PACKED)
        u.terms[slots], u.frequencies[slots] = packed["terms"], packed["frequencies"]
        u.manner[slots] = packed["manner"]
        u.lengths[slots] = [row.length for row in rows]
        u.sources[slots] = [self.sources.take(row.source) for row in rows]
        self._identities[slots] = [row.identity for row in rows]
        self._surfaces[slots] = [row.surface for row in rows]
        self._slot_of.update((row.identity, row.slot) for row in rows)

    def remove(self, slot: int) -> None:
        """While the units' arrays still hold `slot`; it is free then."""
        u = self._units
        self.frequencies.add(u.terms[slot].tolist(), -1)
        self.sources.give_back(int(u.sources[slot]))
        del self._slot_of[int(self._identities[slot])]
        self._identities[slot] = self._surfaces[slot] = 0
        heapq.heappush(self._free, slot)
        self.postings.changed(slot)

    def rebuild(self, rows: Iterable[UnitRow]) -> None:
        """From all rows on disk."""
        rows = iter(rows)
        while part := list(islice(rows, CHUNK)):  # numpy takes many at the price of a few
            self._enter(part)
        used = set(self._slot_of.values())
        self._free = [slot for slot in range(self._units.capacity) if slot not in used]
        self.frequencies.counts[:] = self.postings.rebuild()

    def saliences(self) -> Array:
        """Of all units (n,) float32, with term frequencies as they are now."""
        u = self._units
        surprise, named = self.frequencies.surprise(u.terms, u.frequencies, u.used)
        return salience(surprise, named, u.lengths, u.manner)

    def salience(self, slot: int) -> float:
        """The same of one unit that is about to be recruited."""
        u, one = self._units, slice(slot, slot + 1)
        surprise, named = self.frequencies.surprise(u.terms[one], u.frequencies[one], u.used + 1)
        return float(salience(surprise, named, u.lengths[one], u.manner[one])[0])

    def _rarest(self, found: list[int]) -> list[int]:
        if len(found) <= TERMS:
            return found
        counts = self.frequencies.counts
        order = sorted(range(len(found)), key=lambda i: (int(counts[found[i] % len(counts)]), i))
        return [found[i] for i in sorted(order[:TERMS])]
