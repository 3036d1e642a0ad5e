"""The rows of a state file: what they hold, and the checksums that show whether they are intact.

Each row has a CRC-32 of its fields in the column `mark`. Each vector and each block of the checkpoint has
its own CRC-32 in its last four bytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import StateDamaged
from .database import Database

ALLOCATE, REPEAT, EVICT, WITHDRAW = 0, 1, 2, 3
"""Operations of a journal entry."""
TOMBSTONE = 8
"""Added to the operation of an occurrence that was withdrawn: a replay still applies the entry, but it is no
longer an occurrence of its memory."""
PINNED, UPDATE = 1, 2
"""Flags of a journal entry."""

UNIT_COLUMNS = "slot, memory, text, source, identity, surface, length, terms"
ENTRY_COLUMNS = "seq, op, slot, memory, previous, ts, source, flags, salience, id"
"""Columns of the tables `unit` and `journal` that a row checksum covers."""


class UnitRow(NamedTuple):
    """What the disk keeps of one unit.

    identity, text_hash: hashes of what it says, see `text.terms`. length: words of the text. terms: 32
    uint32, then 32 uint8 for how often each occurs, then 5 uint8, the features of the text. key: d float32.
    """

    slot: int
    memory: int
    text: str
    source: str
    identity: int
    text_hash: int
    length: int
    terms: bytes
    key: bytes = b""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the journal.

    previous: number of the memory's occurrence before this one, 0 for none. delivery_ids: those of the
    messages whose batch this entry ends, encoded; None where there are none.

    A WITHDRAW takes back the occurrence `previous`; the times of the memory are then `salience` to `ts`.
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
    delivery_ids: bytes | None = None


def read_unit(db: Database, slot: int) -> UnitRow | None:
    """The unit in `slot` without its key, None where there is none. Raises StateDamaged."""
    row = db.row(f"SELECT {UNIT_COLUMNS}, mark FROM unit WHERE slot = ?", (slot,))
    return None if row is None else decode_unit(db.path, row)


def read_key(db: Database, slot: int) -> bytes:
    """The key of the unit in `slot`, d float32. Raises StateDamaged, also where it is missing."""
    row = db.row("SELECT key FROM unit WHERE slot = ?", (slot,))
    return verified(db.path, "the vector of unit", slot, row and row[0])


def read_block(db: Database, name: str) -> bytes:
    """A block of the checkpoint. Raises StateDamaged, also where it is missing."""
    row = db.row("SELECT data FROM checkpoint WHERE name = ?", (name,))
    return decompressed(db.path, name, row and row[0])


def decode_entry(path: Path, row: Sequence[Any]) -> Entry:
    """The entry in a row of ENTRY_COLUMNS, mark and tokens. Raises StateDamaged."""
    *fields, checksum, delivery_ids = row
    check_intact(path, "journal entry", fields[0], row_checksum(fields) == checksum)
    if delivery_ids is not None:
        fields.append(verified(path, "the tokens of journal entry", fields[0], delivery_ids))
    return Entry(*fields)


def decode_unit(path: Path, row: Sequence[Any], key: bytes = b"") -> UnitRow:
    """The unit in a row of UNIT_COLUMNS and mark, with this key. Raises StateDamaged."""
    fields, checksum = row[:-1], row[-1]
    check_intact(path, "unit", fields[0], row_checksum(fields) == checksum)
    return UnitRow._make((*fields, key))


def check_intact(path: Path, what: str, which: object, intact: bool) -> None:
    """Raise StateDamaged, which names the file and `what` `which`, unless `intact`."""
    if not intact:
        raise StateDamaged(
            f"{path}: {what} {which} is damaged: these are not the bytes that were written; "
            "restore a copy of the file, or move it away to start anew"
        )


def row_checksum(fields: Sequence[object]) -> int:
    """CRC-32 of the fields of a row, for the column `mark`."""
    return zlib.crc32(repr(tuple(fields)).encode())


def meta_checksum(values: Mapping[str, str]) -> str:
    """CRC-32 of the whole table `meta`, for its key `mark`."""
    return str(row_checksum(sorted(values.items(), key=repr)))  # in a damaged file they may be of any type


def with_checksum(data: bytes) -> bytes:
    """`data` followed by its CRC-32, little-endian; `verified` takes it off again."""
    return data + zlib.crc32(data).to_bytes(4, "little")


def verified(path: Path, what: str, which: object, data: object) -> bytes:
    """`data` without the CRC-32 at its end. Raises StateDamaged where that does not match."""
    content = data[:-4] if isinstance(data, bytes) else b""
    intact = (
        isinstance(data, bytes)
        and len(data) >= 4
        and zlib.crc32(content) == int.from_bytes(data[-4:], "little")
    )
    check_intact(path, what, which, intact)
    return content


def compressed(block: bytes) -> bytes:
    """A block of the checkpoint as it is stored: most statistics are small numbers in wide fields."""
    return with_checksum(zlib.compress(block, 1))


def decompressed(path: Path, name: str, data: object) -> bytes:
    """The block `name` of the checkpoint from its stored form. Raises StateDamaged."""
    content = verified(path, "checkpoint", name, data)
    try:
        return zlib.decompress(content)
    except zlib.error:
        check_intact(path, "checkpoint", name, False)
        raise
