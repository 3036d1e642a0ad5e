"""One disk in memory, and what a power cut leaves of it; `benchmarks.fusefs` says what it promises."""

from __future__ import annotations

import errno
import itertools
import random
import stat
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

SECTOR, PAGE = 512, 4096
NUMBERS = itertools.count(2)


@dataclass(slots=True, eq=False)
class File:
    """Its bytes as they are read, as they are on the disk, and what was written in between."""

    mode: int = stat.S_IFREG | 0o600
    data: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, int, bytes | None]] = field(default_factory=list)
    """(number of the write, offset, the sector as it was then); for a truncation the size and None."""
    number: int = field(default_factory=lambda: next(NUMBERS))
    writes: int = 0

    def write(self, data: bytes, offset: int) -> None:
        end = offset + len(data)
        self.data.extend(bytes(max(0, offset - len(self.data))))
        self.data[offset:end] = data
        self.writes += 1
        for at in range(offset - offset % SECTOR, end, SECTOR):
            self.pending.append((self.writes, at, bytes(self.data[at : at + SECTOR])))

    def truncate(self, size: int) -> None:
        _resize(self.data, size)
        self.writes += 1
        self.pending.append((self.writes, size, None))

    def settle(self, lasts: Callable[[], bool], block: int = SECTOR) -> None:
        """What is pending reaches the disk where `lasts` says so, asked once a block of each write."""
        said: dict[tuple[int, int], bool] = {}
        for number, at, sector in self.pending:
            key = number, at // block
            if key not in said:
                said[key] = lasts()
            if sector is None and not said[key]:
                break
            if sector is None:
                _resize(self.durable, at)
            elif said[key]:
                self.durable.extend(bytes(max(0, at - len(self.durable))))
                self.durable[at : at + len(sector)] = sector
        self.pending.clear()


def _resize(data: bytearray, size: int) -> None:
    del data[size:]
    data.extend(bytes(size - len(data)))


class Platter:
    """One disk, within the process of the file system."""

    def __init__(self) -> None:
        self.names: dict[str, File] = {"": new_folder()}
        self.later: list[dict[str, File]] = []
        """All names after each of the changes that no fsync of a folder has covered yet."""
        self.durable = self.names.copy()
        self.errors: dict[str, int] = {}
        self.pass_first, self.failing = 0, 0
        """Operations that still succeed, then those that fail, of the kinds in `errors`."""
        self.counts: Counter[str] = Counter()
        self.left = 0
        """Changes until the cut; 0 where none is to come."""
        self.image, self.rng, self.dead = Path(), random.Random(1), False

    def load(self, folder: Path, pattern: str) -> None:
        """Hold what is in `folder`, all of it durable."""
        for path in sorted(folder.rglob(pattern)):
            name = path.relative_to(folder).as_posix()
            self.names[name] = new_folder() if path.is_dir() else new_file(path.read_bytes())
        self.durable = self.names.copy()

    def check(self, *kinds: str) -> None:
        """Count an operation, and raise what it is told to raise. The last kind counts, all can fail."""
        if self.dead:
            raise OSError(errno.EIO, "no power")
        kind = next((kind for kind in kinds if kind in self.errors), None)
        if kind is not None:
            self.pass_first -= 1
            if -self.failing <= self.pass_first < 0:
                self.counts[f"failed {kind}"] += 1
                raise OSError(self.errors[kind], "as told")
        self.counts[kinds[-1]] += 1

    def change(self) -> None:
        """Something changes now, or is synced: the power may go."""
        self.counts["changes"] += 1
        self.left -= 1
        if self.left == 0:
            self.off()
            raise OSError(errno.EIO, "no power")

    def renamed(self) -> None:
        self.later.append(self.names.copy())
        self.change()

    def sync(self, file: File) -> None:
        folder = stat.S_ISDIR(file.mode)
        try:
            self.check("fsync", "fsync folder" if folder else "fsync file")
        except OSError:
            file.settle(lambda: self.rng.random() < 0.5)
            raise
        self.change()
        if folder:
            self.durable = self.names.copy()
            self.later.clear()
        file.settle(lambda: True)

    def off(self) -> None:
        """The power is gone: `image` gets what is left."""
        self.dead = True
        rng, share = self.rng, self.rng.choice((0.0, self.rng.random(), 1.0))
        block = rng.choice((SECTOR, PAGE))
        names = rng.choice((self.durable, *self.later))
        for name, file in sorted(names.items()):
            path = self.image / name
            if stat.S_ISDIR(file.mode):
                path.mkdir(parents=True, exist_ok=True)
            else:
                file.settle(lambda: rng.random() < share, block)
                path.write_bytes(file.durable)


def new_folder() -> File:
    return File(stat.S_IFDIR | 0o700)


def new_file(data: bytes) -> File:
    return File(data=bytearray(data), durable=bytearray(data))
