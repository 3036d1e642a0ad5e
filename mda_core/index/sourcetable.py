"""Numbers for sources: the arrays hold them in place of paths."""

from __future__ import annotations

import heapq
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


class SourceTable:
    """Reference-counted numbers of the sources in use; at most as many as there are units."""

    def __init__(self) -> None:
        self._number: dict[str, int] = {}
        self._names: list[str] = []
        self._uses: list[int] = []
        self._free: list[int] = []

    def acquire(self, source: str) -> int:
        """The number of `source`, with one more use; a free number where it has none yet."""
        number = self._number.get(source)
        if number is None:
            number = heapq.heappop(self._free) if self._free else len(self._names)
            if number == len(self._names):
                self._names.append(source)
                self._uses.append(0)
            self._names[number] = source
            self._number[source] = number
        self._uses[number] += 1
        return number

    def release(self, number: int) -> None:
        """One use less; after the last one the number is free, and the name is forgotten."""
        self._uses[number] -= 1
        if self._uses[number] == 0:
            del self._number[self._names[number]]
            self._names[number] = ""
            heapq.heappush(self._free, number)

    def matching(self, match: Callable[[str], bool]) -> NDArray[np.bool_]:
        """(numbers + 1,) bool: which sources match. The last entry, for the number -1 of a free unit, is
        False."""
        hits = [uses > 0 and match(name) for name, uses in zip(self._names, self._uses, strict=True)]
        return np.array([*hits, False], np.bool_)
