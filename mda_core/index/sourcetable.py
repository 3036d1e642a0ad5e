"""Numbers for sources: the arrays hold them in place of paths."""

from __future__ import annotations

import heapq
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


class NameTable:
    """Reference-counted numbers of names, the lowest free one for each; at most `size` of them."""

    def __init__(self, size: int) -> None:
        self._number: dict[str, int] = {}
        self.names: list[str] = []
        """By number; empty where the number is free."""
        self.uses = np.zeros(size, np.int32)
        """(size,) by number; 0 where it is free."""
        self._free: list[int] = []

    def acquire(self, name: str) -> int:
        """The number of `name`, with one more use; a free number where it has none yet."""
        number = self._number.get(name)
        if number is None:
            number = heapq.heappop(self._free) if self._free else len(self.names)
            if number == len(self.names):
                self.names.append(name)
            self.names[number] = name
            self._number[name] = number
        self.uses[number] += 1
        return number

    def release(self, number: int) -> None:
        """One use less; after the last one the number is free, and the name is forgotten."""
        self.uses[number] -= 1
        if self.uses[number] == 0:
            del self._number[self.names[number]]
            self.names[number] = ""
            heapq.heappush(self._free, number)


class SourceTable:
    """The numbers of the sources in use, at most as many as there are units, and of their top levels."""

    def __init__(self, units: int) -> None:
        size = units + 1  # a source that is about to get its first unit is there, too
        self._sources, self._tops = NameTable(size), NameTable(size)
        self._top = np.zeros(size, np.int32)

    def __len__(self) -> int:
        """One more than the highest number that was ever in use."""
        return len(self._sources.names)

    @property
    def uses(self) -> NDArray[np.int32]:
        """(numbers,) how many units each source has."""
        return self._sources.uses[: len(self)]

    @property
    def top(self) -> NDArray[np.int32]:
        """(numbers,) the number of each source's top level, `hall` of `hall/back_door`; a free number has
        that of the source that had it last."""
        return self._top[: len(self)]

    def acquire(self, source: str) -> int:
        """The number of `source`, with one more use; a free number where it has none yet."""
        number = self._sources.acquire(source)
        if self._sources.uses[number] == 1:
            self._top[number] = self._tops.acquire(source.partition("/")[0])
        return number

    def release(self, number: int) -> None:
        """One use less; after the last one the number is free, and the name is forgotten."""
        self._sources.release(number)
        if self._sources.uses[number] == 0:
            self._tops.release(int(self._top[number]))

    def number(self, source: str) -> int:
        """The number of `source`. Where it has none yet, it is the one that it would get, and that of its top
        level is there as well, until the next change."""
        number = self.acquire(source)
        self.release(number)
        return number

    def matching(self, match: Callable[[str], bool]) -> NDArray[np.bool_]:
        """(numbers + 1,) bool: which sources match. The last entry, for the number -1 of a free unit, is
        False."""
        both = zip(self._sources.names, self.uses.tolist(), strict=True)
        return np.array([*(uses > 0 and match(name) for name, uses in both), False], np.bool_)
