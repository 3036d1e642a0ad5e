"""Finding units by something other than their vector: identity, memory number, terms, source.

All of it follows from the rows on disk and is rebuilt from them on open.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from ..event import Event
from ..learning.oja import Array
from ..learning.retention import salience
from ..learning.shares import giving_way, may_pin
from ..learning.units import CHUNK, TERMS, Units
from ..storage.rows import UnitRow
from ..text.features import FEATURES, text_features
from ..text.terms import details, identity, length, terms, text_hash
from .lexical import NAMED, Frequencies
from .postings import Postings
from .sourcetable import SourceTable

MOVED = 0
"""In place of a text's hash: Oja's rule has moved the key, so it is no longer the vector of any text."""

_TERMS_DTYPE = np.dtype(
    [("terms", np.uint32, TERMS), ("frequencies", np.uint8, TERMS), ("features", np.uint8, FEATURES)]
)
"""Layout of the column `terms`."""


class Index:
    """The lookups of one memory, bounded by its capacity. It fills the arrays of `units` that follow from
    the rows: terms, frequencies, lengths, features and sources."""

    def __init__(self, units: Units) -> None:
        self._units = units
        self.frequencies = Frequencies()
        self.postings = Postings(units.terms)
        self.sources = SourceTable(units.capacity)
        self._slot_of: dict[int, int] = {}
        self._identities = np.zeros(units.capacity, np.int64)
        self._text_hashes = np.zeros(units.capacity, np.int64)
        self._free = list(range(units.capacity))

    def __len__(self) -> int:
        return len(self._slot_of)

    def find(self, event: Event) -> int | None:
        """The slot of the unit that an event repeats, by identity of text and source; None if new."""
        return self._slot_of.get(identity(event.text, event.source))

    def find_memory(self, memory: int) -> int | None:
        """The slot of the unit that holds the memory of this number, None where no unit holds it."""
        at = np.flatnonzero(self._units.memory == memory)
        return int(at[0]) if len(at) else None

    def has_vector(self, event: Event) -> bool:
        """Whether an event repeats a unit whose key is the vector of exactly this text."""
        slot = self.find(event)
        return slot is not None and int(self._text_hashes[slot]) == text_hash(event.text)

    def key_moved(self, slot: int) -> None:
        """The key of `slot` is no longer the vector of any text."""
        self._text_hashes[slot] = MOVED

    def take_free(self) -> int | None:
        """Take the lowest free slot; None where the memory is full."""
        return heapq.heappop(self._free) if self._free else None

    def row(self, slot: int, memory: int, event: Event, x: Array) -> UnitRow:
        """The row on disk of a new unit with the vector x (d,) float32."""
        found = terms(f"{event.text} {event.source.replace('/', ' ').replace('_', ' ')}")
        kept = self._rarest(list(found))
        named = details(event.text)
        hashes, frequencies = np.zeros(TERMS, np.uint32), np.zeros(TERMS, np.uint8)
        hashes[: len(kept)] = kept
        frequencies[: len(kept)] = [min(found[t], NAMED - 1) | (NAMED if t in named else 0) for t in kept]
        return UnitRow(
            slot=slot,
            memory=memory,
            text=event.text,
            source=event.source,
            identity=identity(event.text, event.source),
            text_hash=text_hash(event.text),
            length=length(event.text),
            terms=hashes.tobytes() + frequencies.tobytes() + bytes(text_features(event.text)),
            key=x.tobytes(),
        )

    def add(self, row: UnitRow) -> None:
        """Index a new unit, and fill its arrays."""
        self._load([row])
        self.frequencies.add(self._units.terms[row.slot], 1)
        self.postings.changed([row.slot])

    def _load(self, rows: Sequence[UnitRow]) -> None:
        u = self._units
        slots = [row.slot for row in rows]
        columns = np.frombuffer(b"".join([row.terms for row in rows]), _TERMS_DTYPE)
        u.terms[slots], u.frequencies[slots] = columns["terms"], columns["frequencies"]
        u.features[slots] = columns["features"]
        u.lengths[slots] = [row.length for row in rows]
        u.sources[slots] = [self.sources.acquire(row.source) for row in rows]
        self._identities[slots] = [row.identity for row in rows]
        self._text_hashes[slots] = [row.text_hash for row in rows]
        self._slot_of.update((row.identity, row.slot) for row in rows)

    def remove(self, slots: Sequence[int]) -> None:
        """Remove units, while their arrays still hold them. The slots are free afterwards."""
        u, gone = self._units, np.array(slots, np.intp)
        self.frequencies.add(u.terms[gone], -1)
        for number in u.sources[gone].tolist():
            self.sources.release(number)
        for said in self._identities[gone].tolist():
            del self._slot_of[said]
        self._identities[gone] = self._text_hashes[gone] = 0
        for slot in slots:
            heapq.heappush(self._free, slot)
        self.postings.changed(slots)

    def rebuild(self, rows: Iterable[UnitRow]) -> None:
        """Fill a new index from all rows on disk."""
        rows = iter(rows)
        while part := list(islice(rows, CHUNK)):  # many rows cost numpy hardly more than one
            self._load(part)
        used = set(self._slot_of.values())
        self._free = [slot for slot in range(self._units.capacity) if slot not in used]
        self.frequencies.counts[:] = self.postings.rebuild()

    def giving_way(self, source: str) -> NDArray[np.bool_]:
        """(n,) bool: the units one of which gives way to a new one of `source`."""
        u, table = self._units, self.sources
        number = table.number(source)
        chosen = giving_way(table.uses - self._pinned(), table.top, number)
        out: NDArray[np.bool_] = np.append(chosen, False)[u.sources]  # -1, of a free unit, is the last entry
        return out

    def may_pin(self, source: str) -> bool:
        """Whether `source` may pin one more unit."""
        number = self.sources.number(source)
        return may_pin(self._pinned(), self.sources.top, number, self._units.capacity)

    def _pinned(self) -> NDArray[np.intp]:
        """(numbers,) how many units each source has pinned."""
        pinned = np.flatnonzero(self._units.pinned)
        return np.bincount(self._units.sources[pinned], minlength=len(self.sources))

    def saliences(self) -> Array:
        """The saliences of all units (n,) float32, with the term frequencies of now."""
        u = self._units
        surprise, named = self.frequencies.surprise(u.terms, u.frequencies, u.used)
        return salience(surprise, named, u.lengths, u.features)

    def salience(self, slot: int) -> float:
        """The salience of one unit that is about to be allocated, with the term frequencies of now."""
        u, one = self._units, slice(slot, slot + 1)
        surprise, named = self.frequencies.surprise(u.terms[one], u.frequencies[one], u.used + 1)
        return float(salience(surprise, named, u.lengths[one], u.features[one])[0])

    def _rarest(self, found: list[int]) -> list[int]:
        """At most 32 of the terms, the rarest, in their order."""
        if len(found) <= TERMS:
            return found
        counts = self.frequencies.counts
        order = sorted(range(len(found)), key=lambda i: (int(counts[found[i] % len(counts)]), i))
        return [found[i] for i in sorted(order[:TERMS])]
