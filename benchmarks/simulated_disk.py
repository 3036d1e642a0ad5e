"""A simulated disk in memory, and what a power cut leaves of it. `benchmarks.fusefs` describes it."""

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
    """A file: the bytes that are read (`data`), those on the disk (`durable`), and writes not synced yet."""

    mode: int = stat.S_IFREG | 0o600
    data: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, int, bytes | None]] = field(default_factory=list)
    """(number of the write, offset, the sector after it); for a truncation its size and None."""
    number: int = field(default_factory=lambda: next(NUMBERS))
    writes: int = 0

    def write(self, data: bytes, offset: int) -> None:
        """Write, without syncing."""
        end = offset + len(data)
        self.data.extend(bytes(max(0, offset - len(self.data))))
        self.data[offset:end] = data
        self.writes += 1
        for at in range(offset - offset % SECTOR, end, SECTOR):
            self.pending.append((self.writes, at, bytes(self.data[at : at + SECTOR])))

    def truncate(self, size: int) -> None:
        """Change the size, without syncing."""
        _resize(self.data, size)
        self.writes += 1
        self.pending.append((self.writes, size, None))

    def settle(self, lasts: Callable[[], bool], block: int = SECTOR) -> None:
        """Move pending sectors to the disk where `lasts` returns True; asked once a block of each write."""
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


class SimulatedDisk:
    """One disk, inside the process of the file system."""

    def __init__(self) -> None:
        self.names: dict[str, File] = {"": new_folder()}
        self.later: list[dict[str, File]] = []
        """All names after each change of names since the last fsync of a folder."""
        self.durable = self.names.copy()
        self.errors: dict[str, int] = {}
        self.pass_first, self.failing = 0, 0
        """How many more operations of the kinds in `errors` succeed, and how many fail after that."""
        self.counts: Counter[str] = Counter()
        self.left = 0
        """Changes until the power cut; 0 for none."""
        self.image, self.rng, self.dead = Path(), random.Random(1), False

    def load(self, folder: Path, pattern: str) -> None:
        """Load the files in `folder` that match, all of them durable."""
        for path in sorted(folder.rglob(pattern)):
            name = path.relative_to(folder).as_posix()
            self.names[name] = new_folder() if path.is_dir() else new_file(path.read_bytes())
        self.durable = self.names.copy()

    def check(self, *kinds: str) -> None:
        """Count an operation as the last of its `kinds`; raise OSError where one of them is to fail."""
        if self.dead:
            raise OSError(errno.EIO, "no power")
        kind = next((kind for kind in kinds if kind in self.errors), None)
        if kind is not None:
            self.pass_first -= 1
            if -self.failing <= self.pass_first < 0:
                self.counts[f"failed {kind}"] += 1
                raise OSError(self.errors[kind], "injected")
        self.counts[kinds[-1]] += 1

    def change(self) -> None:
        """Count a change or sync, and cut the power where it is due."""
        self.counts["changes"] += 1
        self.left -= 1
        if self.left == 0:
            self.off()
            raise OSError(errno.EIO, "no power")

    def renamed(self) -> None:
        """A name was made, changed or removed."""
        self.later.append(self.names.copy())
        self.change()

    def sync(self, file: File) -> None:
        """fsync a file or a folder. One that fails loses some of what was pending, as on Linux."""
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
        """Cut the power, and write what is left to the folder `image`."""
        self.dead = True
        rng, fraction = self.rng, self.rng.choice((0.0, self.rng.random(), 1.0))
        block = rng.choice((SECTOR, PAGE))
        names = rng.choice((self.durable, *self.later))
        for name, file in sorted(names.items()):
            path = self.image / name
            if stat.S_ISDIR(file.mode):
                path.mkdir(parents=True, exist_ok=True)
            else:
                file.settle(lambda: rng.random() < fraction, block)
                path.write_bytes(file.durable)


def new_folder() -> File:
    return File(stat.S_IFDIR | 0o700)


def new_file(data: bytes) -> File:
    return File(data=bytearray(data), durable=bytearray(data))
