"""SQLite's write-ahead log, looked at before SQLite does: what comes after a damaged frame.

SQLite takes a log to end where a checksum fails. After a kill that is right: the last transaction was not
whole. After damage it takes whole commits away, and says nothing. The format is SQLite's
(sqlite.org/fileformat2.html#walformat).
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

HEADER, FRAME = 32, 24
AT_ONCE = 128
"""Frames looked at together: a quarter of a megabyte."""
_MAGIC = 0x377F0682
"""With the last bit set, checksums are over big-endian words."""


def lost_commits(path: Path) -> int:
    """Commits in the log `path` that SQLite would leave out, behind a frame that is not what was written.

    One may be the commit that a power cut has torn; two are damage. Raises OSError.
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
    lost, whole = 0, True
    while data := file.read(AT_ONCE * (FRAME + size)):
        n = len(data) // (FRAME + size)
        frames = np.frombuffer(data, np.uint8, n * (FRAME + size)).reshape(n, FRAME + size)
        heads = frames[:, :FRAME].copy().view(">u4")
        ours = (heads[:, 2:4] == salt).all(axis=1)
        start = 0
        if whole:
            # A frame of an earlier round ends the log; but not where frames of this one come after it.
            start = n if ours.all() else int(np.argmin(ours))
            body = np.concatenate((frames[:start, :8], frames[:start, FRAME:]), axis=1)
            for i, own in enumerate(_sums(body.view(words).astype(np.uint32), powers)):
                state = powers[-1] @ state + own
                if not np.array_equal(state, heads[i, 4:6]):
                    start = i
                    break
            whole = start == n
        lost += int(np.count_nonzero(heads[start:, 1][ours[start:]]))
    return lost


def _sums(words: NDArray[np.uint32], powers: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """What each row (n, 2m) of words adds to the checksum, (n, 2), modulo 2^32; powers up to A^m.

    Each pair (x, y) makes (s0, s1) into (s0 + s1 + x, s0 + 2 s1 + x + y): with A = [[1, 1], [1, 2]] a row
    adds the sum over its m pairs i of A^(m-1-i) (x, x + y).
    """
    x, y = words[:, 0::2], words[:, 1::2]
    each = powers[-2::-1]  # A^(m-1) first
    return x @ each[:, :, 0] + (x + y) @ each[:, :, 1]


def _powers(n: int) -> NDArray[np.uint32]:
    """A^0 to A^n, (n + 1, 2, 2), modulo 2^32."""
    out = np.empty((n + 1, 2, 2), np.uint32)
    out[0] = np.eye(2)
    a = np.array([[1, 1], [1, 2]], np.uint32)
    for i in range(n):
        out[i + 1] = a @ out[i]
    return out
