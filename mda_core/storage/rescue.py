"""What can still be read of a damaged state file, as events in the order they were learned."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import BadInput, StateError
from ..event import Event
from ..learning.units import CHUNK, last_times
from ..text.terms import surface
from .database import Database
from .journal import read_entries, ring_size
from .rows import PINNED, RECRUIT, REPEAT, UPDATE, Entry, UnitRow, read_block, read_key, read_unit

SPAN = 64
"""Entries asked for at once: where one of them cannot be read, each is asked for by itself."""


@dataclass(slots=True)
class Rescued:
    """Units of a damaged file that could be read and that could not, and how many events came of it."""

    units: int = 0
    lost: int = 0
    events: int = 0


def rescue(
    path: Path, units: int, after: int, found: Rescued, between: Callable[[], None]
) -> Iterator[tuple[Event, bytes | None]]:
    """Events of the damaged file `path`, made for `units` units, after journal number `after`; with the
    vector of each one's text, float32, where its unit holds it still.

    A unit none of whose occurrences can be read comes last, with the time that the statistics have for
    it. Each row is believed by its checksum alone; what cannot be read is left out. Raises nothing.
    """
    try:
        db = Database(path, damaged=True)
    except StateError:
        return
    held: dict[int, int] = {}
    for slot in range(units):
        if slot % SPAN == 0:
            between()
        try:
            row = read_unit(db, slot)
        except StateError:
            found.lost += 1
            continue
        if row is not None:
            held[row.memory] = slot
    found.units = len(held)
    missing = set(held)
    for entry in _entries(db, units, after, between):
        missing.discard(entry.memory)
        if entry.op in (RECRUIT, REPEAT) and entry.memory in held:
            row = _row(db, held[entry.memory])
            event = None if row is None else _event(row, entry)
            if row is not None and event is not None:
                found.events += 1
                yield event, _key(db, row)
    if after == 0:
        for memory in sorted(missing):
            row = _row(db, held[memory])
            event = None if row is None else _unit_alone(db, row)
            if row is not None and event is not None:
                found.events += 1
                yield event, _key(db, row)
    try:
        db.close()
    except StateError:
        return


def _entries(db: Database, units: int, after: int, between: Callable[[], None]) -> Iterator[Entry]:
    """Sound entries in their order."""
    size = ring_size(units)
    newest = max((entry.seq for entry in _sound(db, size, 0, size - 1, between)), default=0)
    yield from _sound(db, size, max(after, newest - size) + 1, newest, between)


def _sound(db: Database, size: int, first: int, last: int, between: Callable[[], None]) -> Iterator[Entry]:
    """Those in the rows of the entries `first` to `last`, of whatever round."""
    for start in range(first, last + 1, SPAN):
        between()
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
    except BadInput:  # taken by a version that checked less
        return None


def _unit_alone(db: Database, row: UnitRow) -> Event | None:
    try:
        data = read_block(db, f"u{row.slot // CHUNK}")
        return Event(row.text, row.source, float(last_times(data)[row.slot % CHUNK]))
    except (StateError, BadInput, LookupError, ValueError):
        return None


def _key(db: Database, row: UnitRow) -> bytes | None:
    """The unit's key, where Oja's rule has not moved it from the vector of the text."""
    try:
        return read_key(db, row.slot) if row.surface == surface(row.text) else None
    except StateError:
        return None


def _row(db: Database, slot: int) -> UnitRow | None:
    try:
        return read_unit(db, slot)
    except StateError:
        return None
