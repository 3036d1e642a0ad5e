"""Estimates of the RAM and disk that a configuration needs."""

from __future__ import annotations

from collections.abc import Iterable

# The process without any space (measured): Python, numpy, onnxruntime with the int8 default model loaded.
BASE_RAM_BYTES = 105_000_000
# A space whatever its size (measured): SQLite's cache, counts of terms, vectors of the newest texts.
SPACE_BYTES = 7_000_000
# Per unit, in addition to its key of `dims` float32:
LINKS_BYTES = 8 * (4 + 4)  # 8 links of int32 and float32
TERMS_BYTES = 32 * (4 + 1)  # 32 terms of uint32 and uint8
PLACES_BYTES = 32 * 4  # the int32 postings of these terms
STATISTICS_BYTES = 85  # about twenty numbers
INDEX_BYTES = 250  # its entries in the indexes over texts and ids (measured)
# Times and slots of the occurrences still held: 16 for each unit, float64 and uint16; and of its allocation.
OCCURRENCES_BYTES = 16 * (8 + 2) + 8 + 12
# Larger spaces also hold the float32 coordinates of each unit along 48 directions.
EXACT_UNITS = 8192
COARSE_BYTES = 48 * 4
# The subspace consists of 32 directions, their variances and the mean.
DIRECTIONS = 32
# On disk per unit, in addition to key, links, terms and statistics: its text, source and up to 16 occurrences
# with ids (measured: 3.5 kB per unit in all at 384 dimensions, after a million events).
ROW_BYTES = 1650
# The write-ahead log of a space.
LOG_BYTES = 9_000_000


def process_bytes(units: Iterable[int], dims: int) -> int:
    """Bytes of RAM of the whole daemon, whose spaces have `units` units and are full."""
    return BASE_RAM_BYTES + sum(ram_bytes(each, dims) for each in units)


def ram_bytes(units: int, dims: int) -> int:
    """Bytes of RAM of one space of `units` units when it is full."""
    unit = dims * 4 + LINKS_BYTES + TERMS_BYTES + PLACES_BYTES + STATISTICS_BYTES + INDEX_BYTES
    unit += OCCURRENCES_BYTES
    if units > EXACT_UNITS:
        unit += COARSE_BYTES
    return SPACE_BYTES + units * unit + (DIRECTIONS + 2) * dims * 4


def disk_bytes(units: int, dims: int, backups: int = 0) -> int:
    """Bytes on disk of one full space with `backups` backups, for texts of ordinary length.

    With backups, one more file is counted: there is one for a while when the next backup is made, or when a
    damaged file is set aside.
    """
    space = units * (dims * 4 + LINKS_BYTES + TERMS_BYTES + STATISTICS_BYTES + ROW_BYTES)
    return space * (1 + (backups + 1 if backups else 0)) + LOG_BYTES
