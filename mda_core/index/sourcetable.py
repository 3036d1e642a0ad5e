"""Sources by number: what the arrays hold in place of a path."""

from __future__ import annotations

import heapq
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


class SourceTable:
    """Numbers for the sources in use; at most as many as there are units."""

    def __init__(self) -> None:
        self._number: dict[str, int] = {}
        self._names: list[str] = []
        self._uses: list[int] = []
        self._free: list[int] = []

    def take(self, source: str) -> int:
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

    def give_back(self, number: int) -> None:
        self._uses[number] -= 1
        if self._uses[number] == 0:
            del self._number[self._names[number]]
            self._names[number] = ""
            heapq.heappush(self._free, number)

    def matching(self, match: Callable[[str], bool]) -> NDArray[np.bool_]:
        """(numbers + 1,) bool: which sources match; the last entry (number -1, a free unit) never."""
        hits = [uses > 0 and match(name) for name, uses in zip(self._names, self._uses, strict=True)]
        return np.array([*hits, False], np.bool_)
