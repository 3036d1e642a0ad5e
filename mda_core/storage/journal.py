"""The journal: each occurrence in its order, in a ring of rows that are written over.

Entry number `seq` has the row `seq` modulo the ring's size. What came after the checkpoint is replayed on
open; the rest is history, until the ring comes round. A row that is written over takes no new page, so
neither the page above it nor the list of free ones is written with it.
"""

from __future__ import annotations

from collections.abc import Iterator

from .database import Database
from .rows import ENTRY, MARKED, VOID, Entry, believe, entry_of, row_mark, sealed

CHECKPOINT_EVERY = 4096
"""Journal entries between two checkpoints; at most so many, and a batch, are replayed on open. Fewer would
write the statistics of all units, a megabyte, too often for a card."""
HISTORY = 16
"""Occurrences kept on disk, on average, for each unit of capacity."""
ROOM = 8
"""Bytes that a row has to spare the first time round: pages filled to the brim would have to be split as
soon as a longer one takes its place."""

# A memory's occurrences, each entry naming the one before it; parameters: the last one's row and seq, the
# memory, the ring's size, the memory.
_PAST = f"""
WITH RECURSIVE past({ENTRY}, mark) AS (
    SELECT {MARKED} FROM journal j WHERE at = ? AND seq = ? AND memory = ?
    UNION ALL
    SELECT {MARKED} FROM past JOIN journal j ON j.at = past.previous % ? AND j.seq = past.previous
    WHERE j.memory = ?)"""


def ring_size(units: int) -> int:
    """Rows of the ring of a memory with room for `units`: its history, and what no checkpoint holds yet."""
    return HISTORY * units + CHECKPOINT_EVERY


class Journal:
    """Raises StateError when the disk does not do what was asked, StateDamaged where a row is not what was
    written."""

    def __init__(self, db: Database, units: int) -> None:
        self._db = db
        self._size = ring_size(units)
        db.function("mark", 10, lambda *fields: row_mark(fields))

    def append(self, entry: Entry) -> None:
        e = entry
        fields = (e.seq, e.op, e.slot, e.memory, e.previous, e.ts, e.source, e.flags, e.salience, e.id)
        self._db.execute(
            f"INSERT OR REPLACE INTO journal(at, {ENTRY}, mark, room) "
            "VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (e.seq % self._size, *fields, row_mark(fields), bytes(ROOM) if e.seq < self._size else None),
        )

    def put_tokens(self, seq: int, tokens: bytes) -> None:
        """Keep the tokens of the deliveries that came with the batch that the entry `seq` ends."""
        self._db.execute("UPDATE journal SET tokens = ? WHERE at = ?", (sealed(tokens), seq % self._size))

    def after(self, seq: int) -> Iterator[Entry]:
        """All entries after `seq`, in order."""
        expected = seq + 1
        for entry in read_entries(self._db, self._size, expected, seq + self._size):
            if entry.seq < expected:
                return  # of the round before
            believe(self._db.path, "journal entry", expected, entry.seq == expected)
            yield entry
            expected += 1

    def void(self, seq: int) -> None:
        """Have the occurrence `seq` count no more."""
        at = (seq % self._size,)
        self._db.execute("UPDATE journal SET op = op + ?, id = NULL WHERE at = ?", (VOID, *at))
        fields = self._db.execute(f"SELECT {ENTRY} FROM journal WHERE at = ?", at).fetchone()
        self._db.execute("UPDATE journal SET mark = ? WHERE at = ?", (row_mark(fields), *at))

    def past(self, tail: int, memory: int, limit: int = -1) -> list[Entry]:
        """A memory's occurrences, newest learned first, from its last one back; not those withdrawn. What has
        been written over is missing."""
        found_by = f"{_PAST} SELECT *, NULL FROM past WHERE op < {VOID} LIMIT ?"  # SQLite stops early there
        rows = self._db.rows(found_by, (*self._chain(tail, memory), limit))
        return [entry_of(self._db.path, row) for row in rows]

    def recruited(self, tail: int, memory: int) -> int | None:
        """The number of the entry that a memory began with, of those still held."""
        found = self._db.execute(f"{_PAST} SELECT min(seq) FROM past", self._chain(tail, memory)).fetchone()
        return None if found[0] is None else int(found[0])

    def within(self, tail: int, memory: int, low: float, high: float) -> tuple[int, float, float] | None:
        """(count, earliest, latest) of the occurrences from `low` to `high`; None where there is none."""
        chosen = f"FILTER (WHERE op < {VOID} AND ts BETWEEN ? AND ?)"
        found = self._db.execute(
            f"{_PAST} SELECT count(*) {chosen}, min(ts) {chosen}, max(ts) {chosen},"
            f" sum(mark({ENTRY}) <> mark) FROM past",
            (*self._chain(tail, memory), *((low, high) * 3)),
        ).fetchone()
        believe(self._db.path, "a journal entry of memory", memory, not found[3])
        return found[:3] if found[0] else None

    def _chain(self, tail: int, memory: int) -> tuple[int, ...]:
        return tail % self._size, tail, memory, self._size, memory

    def has_orphans(self) -> bool:
        """Whether there is something of a memory that is held no more."""
        found = self._db.execute(
            "SELECT 1 FROM journal WHERE memory NOT IN (SELECT memory FROM unit) LIMIT 1"
        )
        return found.fetchone() is not None

    def drop_orphans(self) -> None:
        """Drop the occurrences of every memory that is held no more, at a checkpoint."""
        self._db.execute("DELETE FROM journal WHERE memory NOT IN (SELECT memory FROM unit)")

    def drop_tokens(self) -> None:
        """After a checkpoint, which holds them. Else they stay until they are written over."""
        self._db.execute("UPDATE journal SET tokens = NULL WHERE tokens IS NOT NULL")


def read_entries(db: Database, size: int, first: int, last: int) -> Iterator[Entry]:
    """What a journal of `size` rows has where its entries `first` to `last` belong, which may be those of
    an earlier round. Raises StateDamaged."""
    for low, high in _ranges(first, last, size):
        columns = f"SELECT {ENTRY}, mark, tokens FROM journal WHERE at BETWEEN ? AND ? ORDER BY at"
        for row in db.rows(columns, (low, high)):
            yield entry_of(db.path, row)


def _ranges(first: int, last: int, size: int) -> list[tuple[int, int]]:
    """Where in a ring of `size` rows the entries lie, both ends included; at most `size` of them."""
    low, high = first % size, last % size
    return [(low, high)] if low <= high else [(low, size - 1), (0, high)]
