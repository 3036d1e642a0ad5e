"""Simulated disks that lose their power, fill up and fail on demand: a file system in memory, over FUSE.

    with mounted(folder) as disks:
        disk = disks["state"]                       # an empty one, at disk.path
        disk.fail(fsync="EIO"), disk.fail()         # fails from now on; is sound again
        disk.cut(image, after=17, seed=1)           # its power goes in the midst of the 17th change from now

What a power cut leaves, by `seed`:
- what a successful fsync covered, as it was then;
- of each file's later writes none, all or some of the blocks of 512 or 4,096 bytes, in any order, each
  as after one of the writes to it; a file made longer holds zeros where they are missing. A truncation may be
  lost with all that came after it in that file (freed blocks are not used again before the journal has it);
- of the later changes of names (made, renamed, removed) the first few, in their order, as a file system with
  a journal leaves them. An fsync of any folder covers them all; that of a file covers none, for POSIX
  promises no more. (ext4 would keep them. Its own tricks against programs that do not sync are not here.)

A failed fsync is as on Linux: some of what was written is lost, reads return it all the same, and the next
fsync says that all is well. That is the trap: what follows it must be written again.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fusefs_child import CONTROL

ROOT = Path(__file__).resolve().parents[1]
FAULTS = {
    "full": {"grow": "ENOSPC"},
    "no write": {"write": "EIO"},
    "no sync": {"fsync": "EIO"},
    "read-only": {"write": "EROFS"},
}
"""How disks fail, for `Disk.fail`."""


@dataclass(frozen=True, slots=True)
class Disk:
    """One disk, from outside."""

    path: Path

    def _do(self, do: str, **more: object) -> None:
        command = {"disk": self.path.name, "do": do, **more}
        (self.path.parent / CONTROL).write_text(json.dumps(command))

    def load(self, folder: Path | None = None, pattern: str = "*") -> None:
        """Reset the disk: no faults, powered, with the files in `folder` that match, or empty."""
        self._do("load", folder=None if folder is None else str(folder), pattern=pattern)

    def fail(self, *, after: int = 0, times: int = 1 << 62, **errors: str) -> None:
        """From now on fail in exactly these ways; without any of them the disk works again. Of the operations
        concerned, the first `after` succeed, the next `times` fail, and all later ones succeed.

        errors: the name of an errno for `read`, `open`, `write` (all that changes files or names), `grow`
        (the writes that make a file longer), `fsync`, or `fsync file` or `fsync folder` alone.
        """
        self._do("fail", errors=errors, after=after, times=times)

    def cut(self, image: Path, *, after: int = 0, seed: int = 1) -> Path:
        """Cut the power in the middle of the change `after` from now, or now, and write what is left to the
        folder `image`, which is created. From then on every operation is an I/O error, until `load`."""
        image.mkdir(exist_ok=True)
        self._do("cut", image=str(image), after=after, seed=seed)
        return image

    def counts(self) -> Mapping[str, int]:
        """Operations since `load` by kind: read, write, fsync file, fsync folder, name; all `changes`; and
        failures, as in `failed write`."""
        counts: dict[str, dict[str, int]] = json.loads((self.path.parent / CONTROL).read_text())
        return Counter(counts[self.path.name])


class Disks:
    """The disks of one mounted file system, by name. A disk is created when it is first used."""

    def __init__(self, mount: Path) -> None:
        self.mount = mount
        self._made: dict[str, Disk] = {}

    def __getitem__(self, name: str) -> Disk:
        if name not in self._made:
            self._made[name] = Disk(self.mount / name)
            self._made[name].load()
        return self._made[name]


@contextlib.contextmanager
def mounted(folder: Path, *, direct: bool = False) -> Iterator[Disks]:
    """Mount at `folder`, which is created, in a separate process. Raises OSError where that is impossible.

    direct: no file cache, so that every read reaches the disk, and can fail there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "benchmarks.fusefs_child", str(folder), *(("direct",) if direct else ())]
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said
        )
        assert child.stdin is not None and child.stdout is not None
        with child.stdin, child.stdout:
            try:
                if child.stdout.readline() != b"mounted\n":
                    said.seek(0)
                    raise OSError(
                        f"no file system at {folder}: {said.read().decode(errors='replace')[-500:]}"
                    )
                yield Disks(folder)
            finally:
                child.stdin.close()  # the child unmounts then, also when this process is killed
                child.wait()


@functools.cache
def unavailable() -> str | None:
    """Why such a file system cannot be mounted here; None where it can."""
    if shutil.which("fusermount3") is None:
        return "FUSE is not installed (Debian: apt-get install fuse3)"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse is not there or not for this user"
    with tempfile.TemporaryDirectory(prefix="mda-bench-") as name:
        try:
            with mounted(Path(name) / "disks"):
                return None
        except OSError as exc:
            return str(exc)
