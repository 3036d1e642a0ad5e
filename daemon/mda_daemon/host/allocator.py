"""Settings of glibc's allocator for a process that runs for years on a small board.

By default glibc keeps tens of MB of freed memory: an arena per thread, and a threshold for large blocks that
grows. With these settings it keeps what one run of the encoder needs, in one arena, until `give_back`.
Without glibc these functions do nothing.
"""

from __future__ import annotations

import ctypes
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
# Larger blocks get a mapping of their own, which goes back to the system when they are freed. This is above
# any block of the encoder (256 tokens, 12 heads: 256 * 256 * 12 * 4 B = 3.1 MB): with 1 MB each run had to
# get its pages from the system again, and took 1.4 times as long.
_LARGE_BYTES = 8 << 20
# Free memory that is kept at the end of the heap; the default of 128 KB makes no difference.
_FREE_BYTES = 32 << 20


@cache
def _libc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "malloc_trim") and hasattr(libc, "mallopt") else None


def restrain() -> None:
    """Use one arena for all threads, and fixed thresholds. Must be called before any thread starts."""
    if libc := _libc():
        libc.mallopt(_M_ARENA_MAX, 1)
        libc.mallopt(_M_TRIM_THRESHOLD, _FREE_BYTES)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def give_back() -> None:
    """Return free heap pages to the system, which takes a few milliseconds."""
    if libc := _libc():
        libc.malloc_trim(0)
