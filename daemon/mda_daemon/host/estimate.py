"""What a configuration will take of RAM and disk: the arithmetic in one place."""

from __future__ import annotations

from collections.abc import Iterable

# The process before it has any space: Python, numpy, onnxruntime with the int8 default model loaded.
BASE_RAM_BYTES = 105_000_000
# A space of any size: SQLite's cache, counts of terms, vectors of the newest texts (measured).
SPACE_BYTES = 7_000_000
# A unit beside its key (dims float32): 8 links of (int32 + float32), 32 terms of (uint32 + uint8) and their
# places (int32), some twenty numbers of statistics, and its entries in the indexes over texts and ids
# (measured). Above 8,192 units also its place along 48 directions.
LINKS_BYTES = 8 * 8
TERMS_BYTES = 32 * 5
PLACES_BYTES = 32 * 4
STATISTICS_BYTES = 85
INDEX_BYTES = 250
EXACT_UNITS = 8192
COARSE_BYTES = 48 * 4
# The subspace: 32 directions, their variances and the mean.
DIRECTIONS = 32
# On disk a unit's key is there once; beside it text, source and up to 16 occurrences with ids (measured:
# 3.5 kB a unit in all at 384 dimensions, after a million events). The write-ahead log comes on top, once.
ROW_BYTES = 1650
LOG_BYTES = 9_000_000


def process_bytes(units: Iterable[int], dims: int) -> int:
    """Bytes of the whole daemon with full spaces of so many units each."""
    return BASE_RAM_BYTES + sum(ram_bytes(each, dims) for each in units)


def ram_bytes(units: int, dims: int) -> int:
    """Bytes that one space of so many units holds in memory when it is full."""
    unit = dims * 4 + LINKS_BYTES + TERMS_BYTES + PLACES_BYTES + STATISTICS_BYTES + INDEX_BYTES
    if units > EXACT_UNITS:
        unit += COARSE_BYTES
    return SPACE_BYTES + units * unit + (DIRECTIONS + 2) * dims * 4


def disk_bytes(units: int, dims: int, backups: int = 0) -> int:
    """Bytes that a full space takes on disk with its backups, for texts of an ordinary length.

    With backups one more is there for a while: the next one, or what was damaged.
    """
    space = units * (dims * 4 + LINKS_BYTES + TERMS_BYTES + STATISTICS_BYTES + ROW_BYTES)
    return space * (1 + (backups + 1 if backups else 0)) + LOG_BYTES
