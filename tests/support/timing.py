"""How the time of a piece of work grows with its size, told alike on an idle computer and on a busy one."""

from __future__ import annotations

import time
from collections.abc import Callable

RUNS = 3


def is_linear(work: Callable[[int], object], size: int) -> bool:
    """Whether sixteen times the size takes far less than 256 times as long.

    By the processor time of this thread, the shortest of some runs: what others do makes a run longer, none
    shorter.
    """
    work(size)  # what is only done the first time
    small = min(_seconds(work, size) for _ in range(RUNS))
    return any(_seconds(work, 16 * size) < 100 * small + 0.1 for _ in range(RUNS))


def _seconds(work: Callable[[int], object], size: int) -> float:
    started = time.thread_time()
    work(size)
    return time.thread_time() - started
