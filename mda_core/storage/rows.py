"""Rows of a state file: what they hold, and whether it is what was written.

Each row carries a CRC-32 of its fields, each vector and block its own at the end.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import StateDamaged
from .database import Database

RECRUIT, REPEAT, RELEASE, WITHDRAW = 0, 1, 2, 3
VOID = 8
"""Added to the operation of an occurrence that was withdrawn: it is replayed, but counts no more."""
PINNED, UPDATE = 1, 2
"""Flags of an occurrence."""

UNIT = "slot, memory, text, source, identity, surface, length, terms"
ENTRY = "seq, op, slot, memory, previous, ts, source, flags, salience, id"
MARKED = ", ".join(f"j.{name}" for name in (*ENTRY.split(", "), "mark"))


class UnitRow(NamedTuple):
    """What the disk keeps of one unit; key is d float32, terms 32 uint32, then 32 uint8 for how
    often each occurs, then 5 uint8 for the manner of the text."""

    slot: int
    memory: int
    text: str
    source: str
    identity: int
    surface: int
    length: int
    terms: bytes
    key: bytes = b""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the journal; tokens are those of the deliveries that came with its batch.

    A WITHDRAW takes back the occurrence `previous`; the memory's times are then from `salience` to `ts`.
    """

    seq: int
    op: int
    slot: int
    memory: int
    previous: int = 0
    ts: float = 0.0
    source: str = ""
    flags: int = 0
    salience: float = 0.0
    id: str | None = None
    tokens: bytes | None = None


def read_unit(db: Database, slot: int) -> UnitRow | None:
    """The unit in `slot`, without its key. Raises StateDamaged where it is not what was written."""
    row = db.execute(f"SELECT {UNIT}, mark FROM unit WHERE slot = ?", (slot,)).fetchone()
    return None if row is None else unit_of(db.path, row)


def read_key(db: Database, slot: int) -> bytes:
    """The key of the unit in `slot`. Raises StateDamaged where it is missing or not what was written."""
    row = db.execute("SELECT key FROM unit WHERE slot = ?", (slot,)).fetchone()
    return unsealed(db.path, "the vector of unit", slot, row and row[0])


def read_block(db: Database, name: str) -> bytes:
    """A block of the checkpoint. Raises StateDamaged where it is missing or not what was written."""
    row = db.execute("SELECT data FROM checkpoint WHERE name = ?", (name,)).fetchone()
    return unpacked(db.path, name, row and row[0])


def entry_of(path: Path, row: Sequence[Any]) -> Entry:
    *fields, mark, tokens = row
    believe(path, "journal entry", fields[0], row_mark(fields) == mark)
    if tokens is not None:
        fields.append(unsealed(path, "the tokens of journal entry", fields[0], tokens))
    return Entry(*fields)


def unit_of(path: Path, row: Sequence[Any], key: bytes = b"") -> UnitRow:
    fields, mark = row[:-1], row[-1]
    believe(path, "unit", fields[0], row_mark(fields) == mark)
    return UnitRow._make((*fields, key))


def believe(path: Path, what: str, which: object, sound: bool) -> None:
    if not sound:
        raise StateDamaged(
            f"{path}: {what} {which} is damaged: these are not the bytes that were written; "
            "restore a copy of the file, or move it away to start anew"
        )


def unsealed(path: Path, what: str, which: object, data: object) -> bytes:
    held = data[:-4] if isinstance(data, bytes) else b""
    sound = (
        isinstance(data, bytes) and len(data) >= 4 and zlib.crc32(held) == int.from_bytes(data[-4:], "little")
    )
    believe(path, what, which, sound)
    return held


def packed(block: bytes) -> bytes:
    """A block of the checkpoint as it is kept: most statistics are small numbers in wide fields."""
    return sealed(zlib.compress(block, 1))


def unpacked(path: Path, name: str, data: object) -> bytes:
    """The block again. Raises StateDamaged."""
    held = unsealed(path, "checkpoint", name, data)
    try:
        return zlib.decompress(held)
    except zlib.error:
        believe(path, "checkpoint", name, False)
        raise


def mark_of(values: Mapping[str, str]) -> str:
    return str(row_mark(sorted(values.items(), key=repr)))  # of a damaged file they may be of any type


def row_mark(fields: Sequence[object]) -> int:
    """CRC-32 of a row's fields."""
    return zlib.crc32(repr(tuple(fields)).encode())


def sealed(data: bytes) -> bytes:
    """`data` and its CRC-32."""
    return data + zlib.crc32(data).to_bytes(4, "little")
