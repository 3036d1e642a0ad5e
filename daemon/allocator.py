"""How glibc's allocator behaves in a process that runs for years on a small board.

By itself it keeps what was freed: an arena a thread, and ever larger blocks inside them, tens of MB
in all. Elsewhere than on glibc these functions do nothing.
"""

from __future__ import annotations

import ctypes
from functools import cache

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
# Larger blocks than this are mapped by themselves and go back to the system when they are freed.
_LARGE_BYTES = 1 << 20


@cache
def _libc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "malloc_trim") and hasattr(libc, "mallopt") else None


def restrain() -> None:
    """One arena for all threads, and a fixed size from which blocks are mapped. Before any thread starts."""
    if libc := _libc():
        libc.mallopt(_M_ARENA_MAX, 1)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def give_back() -> None:
    """Return free heap pages to the system: a few milliseconds."""
    if libc := _libc():
        libc.malloc_trim(0)
