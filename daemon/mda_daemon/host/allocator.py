"""How glibc's allocator behaves in a process that runs for years on a small board.

By itself it keeps what was freed, tens of MB: an arena a thread, and ever larger blocks inside them. Here
it keeps what one run of the encoder needs, in one arena, until `give_back`. Elsewhere than on glibc these
functions do nothing.
"""

from __future__ import annotations

import ctypes
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
# Larger blocks than this are mapped by themselves and go back to the system when they are freed. Above any
# block of the encoder (256 tokens, 12 heads: 256 * 256 * 12 * 4 B = 3.1 MB): with 1 MB each run asked the
# system for its pages anew, which made it 1.4 times as long.
_LARGE_BYTES = 8 << 20
# So much may lie free at the heap's end; the default of 128 KB has the same effect.
_FREE_BYTES = 32 << 20


@cache
def _libc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "malloc_trim") and hasattr(libc, "mallopt") else None


def restrain() -> None:
    """One arena for all threads, fixed limits in place of growing ones. Before any thread starts."""
    if libc := _libc():
        libc.mallopt(_M_ARENA_MAX, 1)
        libc.mallopt(_M_TRIM_THRESHOLD, _FREE_BYTES)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def give_back() -> None:
    """Return free heap pages to the system: a few milliseconds."""
    if libc := _libc():
        libc.malloc_trim(0)
