"""A table of fixed size that drops its least recently used entry."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

V = TypeVar("V")


class Table(Generic[V]):
    """A mapping of at most `size` entries. Reading or writing an entry makes it the most recently used."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[Hashable, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Hashable) -> V | None:
        """The value of `key`, or None."""
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key]

    def clear(self) -> None:
        """Remove all entries."""
        self._values.clear()

    def put(self, key: Hashable, value: V) -> None:
        """Set the value of `key`; drops the least recently used entry if the table is full."""
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._size:
            self._values.popitem(last=False)
