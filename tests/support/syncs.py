"""Which files and folders this process makes durable, in order."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Syncs:
    """Within a `with`, keeps the path of everything given to os.fsync, and of what is renamed, as a pair.

    What a database syncs by itself is not seen.
    """

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self._fsync: Callable[[int], None] = os.fsync
        self._replace: Callable[..., None] = os.replace

    @property
    def paths(self) -> list[Path]:
        """What was synced."""
        return [each for each in self.calls if isinstance(each, Path)]

    def __enter__(self) -> Syncs:
        def fsync(fd: int) -> None:
            self.calls.append(Path(os.readlink(f"/proc/self/fd/{fd}")))
            self._fsync(fd)

        def replace(old: Path, new: Path) -> None:
            self.calls.append((old, new))
            self._replace(old, new)

        os.fsync, os.replace = fsync, replace  # type: ignore[assignment]
        return self

    def __exit__(self, *error: object) -> None:
        os.fsync, os.replace = self._fsync, self._replace  # type: ignore[assignment]
