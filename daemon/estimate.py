"""What a configuration will take of RAM and disk: the arithmetic in one place."""

from __future__ import annotations

# The process before it has any unit: Python, numpy, onnxruntime with the int8 default model loaded.
BASE_RAM_BYTES = 120_000_000
# A unit beside its key (dims float32): 8 links of (int32 + float32), 32 terms of (uint32 + uint8), some
# fifteen numbers of statistics, and its entries in the indexes over texts and ids (measured).
LINKS_BYTES = 8 * 8
TERMS_BYTES = 32 * 5
STATISTICS_BYTES = 72
INDEX_BYTES = 300
# The subspace: 32 directions, their variances and the mean.
DIRECTIONS = 32
# On disk a unit's vectors are in the checkpoint and in the journal; text, ids and occurrences beside them.
# Measured: 5.3 kB a unit at 384 dimensions. The write-ahead log comes on top, once.
ROW_BYTES = 1900
LOG_BYTES = 4_500_000


def ram_bytes(units: int, dims: int) -> int:
    """Bytes that one space of so many units holds in memory when it is full."""
    unit = dims * 4 + LINKS_BYTES + TERMS_BYTES + STATISTICS_BYTES + INDEX_BYTES
    return units * unit + (DIRECTIONS + 2) * dims * 4


def disk_bytes(units: int, dims: int) -> int:
    """Bytes that a full space takes on disk, for texts of an ordinary length."""
    return units * (2 * dims * 4 + LINKS_BYTES + TERMS_BYTES + STATISTICS_BYTES + ROW_BYTES) + LOG_BYTES
