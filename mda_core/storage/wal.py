"""Finds commits in SQLite's write-ahead log that SQLite would silently drop after a damaged frame.

SQLite ends the log at the first checksum that does not match. After a kill that is right: the last
transaction was incomplete. After damage it drops complete commits without an error. So the log is read here
before SQLite opens it. Source of the format: sqlite.org/fileformat2.html#walformat.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

HEADER, FRAME = 32, 24
"""Bytes of the log's header and of a frame's header."""
FRAMES_AT_ONCE = 128
"""Frames read and checked together: a quarter of a megabyte."""
_MAGIC = 0x377F0682
"""Where its last bit is set, checksums are over big-endian words."""


def lost_commits(path: Path) -> int:
    """How many commits in the log `path` come at or after a damaged frame, so that SQLite would drop them.

    A single one may be the commit that a power cut interrupted; two or more mean damage. Raises OSError.
    """
    if not path.exists():
        return 0
    with path.open("rb") as file:
        return _lost_commits(file)


def _lost_commits(file: BinaryIO) -> int:
    header = file.read(HEADER)
    if len(header) < HEADER:
        return 0
    magic, size = int.from_bytes(header[:4], "big"), int.from_bytes(header[8:12], "big")
    if magic & ~1 != _MAGIC or not 512 <= size <= 65536 or size & (size - 1):
        return 0
    words = np.dtype(">u4" if magic & 1 else "<u4")
    salt, state = np.frombuffer(header, ">u4", 2, 16), np.frombuffer(header, ">u4", 2, 24).astype(np.uint32)
    powers = _powers((8 + size) // 8)
    lost, intact = 0, True
    while data := file.read(FRAMES_AT_ONCE * (FRAME + size)):
        n = len(data) // (FRAME + size)
        frames = np.frombuffer(data, np.uint8, n * (FRAME + size)).reshape(n, FRAME + size)
        heads = frames[:, :FRAME].copy().view(">u4")
        current = (heads[:, 2:4] == salt).all(axis=1)
        start = 0
        if intact:
            # A frame with an older salt ends the log, unless frames with the current salt come after it.
            start = n if current.all() else int(np.argmin(current))
            body = np.concatenate((frames[:start, :8], frames[:start, FRAME:]), axis=1)
            for i, own in enumerate(_sums(body.view(words).astype(np.uint32), powers)):
                state = powers[-1] @ state + own
                if not np.array_equal(state, heads[i, 4:6]):
                    start = i
                    break
            intact = start == n
        lost += int(np.count_nonzero(heads[start:, 1][current[start:]]))
    return lost


def _sums(words: NDArray[np.uint32], powers: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """What each row of words (n, 2m) uint32 adds to the checksum, (n, 2) uint32, modulo 2^32.

    Each pair (x, y) turns (s0, s1) into (s0 + s1 + x, s0 + 2 s1 + x + y). With A = [[1, 1], [1, 2]] a row
    therefore adds the sum of A^(m-1-i) (x, x + y) over its m pairs i. `powers` (m + 1, 2, 2) are A^0 to A^m.
    """
    x, y = words[:, 0::2], words[:, 1::2]
    each = powers[-2::-1]  # A^(m-1) first
    return x @ each[:, :, 0] + (x + y) @ each[:, :, 1]


def _powers(n: int) -> NDArray[np.uint32]:
    """A^0 to A^n, (n + 1, 2, 2) uint32, modulo 2^32; A as in `_sums`."""
    out = np.empty((n + 1, 2, 2), np.uint32)
    out[0] = np.eye(2)
    a = np.array([[1, 1], [1, 2]], np.uint32)
    for i in range(n):
        out[i + 1] = a @ out[i]
    return out
