"""Reads what is still intact in a damaged state file, as events in the order they were learned."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import BadInput, StateError
from ..event import Event
from ..learning.units import CHUNK, last_times
from ..text.terms import text_hash
from .database import Database
from .journal import read_entries, ring_size
from .rows import ALLOCATE, PINNED, REPEAT, UPDATE, Entry, UnitRow, read_block, read_key, read_unit

SPAN = 64
"""Entries read with one query. Where one of them cannot be read, each is read by itself."""


@dataclass(slots=True)
class Rescued:
    """What came of a damaged file: units that could be read, units that could not (`lost`), and events."""

    units: int = 0
    lost: int = 0
    events: int = 0


def rescue(
    path: Path, units: int, after: int, encoder: str, found: Rescued, progress: Callable[[], None]
) -> Iterator[tuple[Event, bytes | None]]:
    """The events in the damaged file `path` of a memory with `units` units, after journal number `after`.

    Each comes with the vector of its text, d float32, or None where its unit does not hold that any more, or
    where the file is of another encoder than that of the fingerprint `encoder`.
    Units without a readable occurrence come last, with their time from the statistics. A row is taken where
    its checksum matches and left out otherwise. `found` is filled in on the way, `progress` is called for
    every 64 rows. Raises nothing.
    """
    try:
        db = Database(path, damaged=True)
    except StateError:
        return
    comparable = _encoder(db) == encoder
    slots: dict[int, int] = {}
    for slot in range(units):
        if slot % SPAN == 0:
            progress()
        try:
            row = read_unit(db, slot)
        except StateError:
            found.lost += 1
            continue
        if row is not None:
            slots[row.memory] = slot
    found.units = len(slots)
    without_occurrence = set(slots)
    for entry in _entries(db, units, after, progress):
        without_occurrence.discard(entry.memory)
        if entry.op in (ALLOCATE, REPEAT) and entry.memory in slots:
            row = _unit(db, slots[entry.memory])
            event = None if row is None else _event(row, entry)
            if row is not None and event is not None:
                found.events += 1
                yield event, _key(db, row) if comparable else None
    if after == 0:
        for memory in sorted(without_occurrence):
            row = _unit(db, slots[memory])
            event = None if row is None else _event_from_statistics(db, row)
            if row is not None and event is not None:
                found.events += 1
                yield event, _key(db, row) if comparable else None
    try:
        db.close()
    except StateError:
        return


def _encoder(db: Database) -> str | None:
    """The fingerprint of the encoder, None where that cannot be read."""
    try:
        row = db.row("SELECT value FROM meta WHERE key = 'encoder'")
    except StateError:
        return None
    return None if row is None else row[0]


def _entries(db: Database, units: int, after: int, progress: Callable[[], None]) -> Iterator[Entry]:
    """The intact entries after number `after`, in order."""
    size = ring_size(units)
    newest = max((entry.seq for entry in _intact(db, size, 0, size - 1, progress)), default=0)
    yield from _intact(db, size, max(after, newest - size) + 1, newest, progress)


def _intact(db: Database, size: int, first: int, last: int, progress: Callable[[], None]) -> Iterator[Entry]:
    """The intact entries in the rows of numbers `first` to `last`, from any round of the ring."""
    for start in range(first, last + 1, SPAN):
        progress()
        end = min(start + SPAN - 1, last)
        try:
            yield from list(read_entries(db, size, start, end))
        except StateError:
            for seq in range(start, end + 1):
                with contextlib.suppress(StateError):
                    yield from list(read_entries(db, size, seq, seq))


def _event(row: UnitRow, entry: Entry) -> Event | None:
    update = bool(entry.flags & UPDATE) and entry.id is not None
    try:
        return Event(row.text, entry.source, entry.ts, entry.id, bool(entry.flags & PINNED), update)
    except BadInput:  # learned by a version that checked less
        return None


def _event_from_statistics(db: Database, row: UnitRow) -> Event | None:
    """The last occurrence of a unit of which the journal has none."""
    try:
        data = read_block(db, f"u{row.slot // CHUNK}")
        return Event(row.text, row.source, float(last_times(data)[row.slot % CHUNK]))
    except (StateError, BadInput, LookupError, ValueError):
        return None


def _key(db: Database, row: UnitRow) -> bytes | None:
    """The key of the unit, unless Oja's rule has moved it away from the vector of its text."""
    try:
        return read_key(db, row.slot) if row.text_hash == text_hash(row.text) else None
    except StateError:
        return None


def _unit(db: Database, slot: int) -> UnitRow | None:
    try:
        return read_unit(db, slot)
    except StateError:
        return None
