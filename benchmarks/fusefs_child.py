"""The process of `benchmarks.fusefs`, whose docstring says how its disks behave.

    python -m benchmarks.fusefs_child MOUNT [direct]

It unmounts itself when its standard input ends, as it does where the parent was killed.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import random
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.simulated_disk import PAGE, File, SimulatedDisk

CONTROL = ".control"
"""Commands are written to this file as JSON; what was counted is read from it."""
CONTROL_BYTES = 1 << 16


class FileSystem:
    """What mfusepy calls. One thread, so there is nothing to lock."""

    use_ns = True

    def __init__(self) -> None:
        self.disks: dict[str, SimulatedDisk] = {}
        self.open_files: dict[int, tuple[SimulatedDisk, File]] = {}
        self.handles = itertools.count(1)

    def init(self, path: str) -> None:
        print("mounted", flush=True)

    # control

    def _control(self, data: bytes) -> None:
        command = json.loads(data)
        name, do = command["disk"], command["do"]
        if do == "load":
            self.disks[name] = SimulatedDisk()
            if command["folder"]:
                self.disks[name].load(Path(command["folder"]), command["pattern"])
        disk = self.disks[name]
        if do == "fail":
            disk.errors = {kind: getattr(errno, error) for kind, error in command["errors"].items()}
            disk.pass_first, disk.failing = command["after"], command["times"]
        elif do == "cut":
            disk.image, disk.left = Path(command["image"]), command["after"]
            disk.rng = random.Random(command["seed"])
            if disk.left == 0 and not disk.dead:
                disk.off()

    def _counts(self) -> bytes:
        counts = json.dumps({name: disk.counts for name, disk in self.disks.items()})
        return counts.ljust(CONTROL_BYTES).encode()

    # files and folders

    def _find(self, path: str) -> tuple[SimulatedDisk, str]:
        """The disk of a path, and its name there."""
        disk, _, name = path[1:].partition("/")
        if disk not in self.disks:
            raise OSError(errno.ENOENT, path)
        return self.disks[disk], name

    def _file(self, path: str, handle: int | None) -> tuple[SimulatedDisk, File]:
        if handle:
            return self.open_files[handle]
        disk, name = self._find(path)
        if name not in disk.names:
            raise OSError(errno.ENOENT, path)
        return disk, disk.names[name]

    def getattr(self, path: str, handle: int | None = None) -> dict[str, Any]:
        now = time.time_ns()
        out = {"st_nlink": 1, "st_uid": os.getuid(), "st_gid": os.getgid(), "st_mtime": now, "st_ctime": now}
        if path in ("/", f"/{CONTROL}"):
            mode = stat.S_IFDIR | 0o755 if path == "/" else stat.S_IFREG | 0o600
            return {**out, "st_mode": mode, "st_size": CONTROL_BYTES, "st_ino": 1}
        _, file = self._file(path, handle)
        return {**out, "st_mode": file.mode, "st_size": len(file.data), "st_ino": file.number}

    def statfs(self, path: str) -> dict[str, int]:
        full = path != "/" and errno.ENOSPC in self._find(path)[0].errors.values()
        free = 0 if full else 1 << 18
        return {"f_bsize": PAGE, "f_frsize": PAGE, "f_blocks": 1 << 20, "f_bfree": free, "f_bavail": free}

    def open(self, path: str, flags: int) -> int:
        if path == f"/{CONTROL}":
            return 0
        disk, file = self._file(path, None)
        disk.check("open")
        handle = next(self.handles)
        self.open_files[handle] = disk, file
        return handle

    def opendir(self, path: str) -> int:
        return 0 if path == "/" else self.open(path, 0)

    def release(self, path: str, handle: int) -> None:
        self.open_files.pop(handle, None)

    releasedir = release

    def readdir(self, path: str, handle: int) -> list[tuple[str, dict[str, int], int]]:
        if handle:
            disk, folder = self.open_files[handle]
            above = next(name for name, file in disk.names.items() if file is folder)
            split = [(*name.rpartition("/"), file) for name, file in disk.names.items() if name]
            inside = {last: file for parent, _, last, file in split if parent == above}
        else:
            inside = {name: disk.names[""] for name, disk in self.disks.items()}
        found = {name: {"st_mode": file.mode, "st_ino": file.number} for name, file in inside.items()}
        return [(name, kind, 0) for name, kind in found.items()]

    def read(self, path: str, size: int, offset: int, handle: int) -> bytes:
        if not handle:
            return self._counts()[offset : offset + size]
        disk, file = self.open_files[handle]
        disk.check("read")
        return bytes(file.data[offset : offset + size])

    def write(self, path: str, data: bytes, offset: int, handle: int) -> int:
        if not handle:
            self._control(data)
            return len(data)
        disk, file = self.open_files[handle]
        disk.check(*(("grow",) if offset + len(data) > len(file.data) else ()), "write")
        file.write(data, offset)
        disk.change()
        return len(data)

    def truncate(self, path: str, size: int, handle: int | None = None) -> None:
        if path == f"/{CONTROL}" or handle == 0:
            return
        disk, file = self._file(path, handle)
        disk.check("write")
        file.truncate(size)
        disk.change()

    def fsync(self, path: str, datasync: int, handle: int) -> None:
        disk, file = self.open_files[handle]
        disk.sync(file)

    fsyncdir = fsync

    def _named(self, path: str, file: File) -> None:
        disk, name = self._find(path)
        disk.check("write", "name")
        disk.names[name] = file
        disk.renamed()

    def create(self, path: str, mode: int, flags: int) -> int:
        self._named(path, File(stat.S_IFREG | mode))
        return self.open(path, flags)

    def mkdir(self, path: str, mode: int) -> None:
        self._named(path, File(stat.S_IFDIR | mode))

    def unlink(self, path: str) -> None:
        disk, name = self._find(path)
        disk.check("write", "name")
        del disk.names[name]
        disk.renamed()

    rmdir = unlink

    def rename(self, old: str, new: str) -> None:
        (disk, was), (_, will) = self._find(old), self._find(new)
        disk.check("write", "name")
        for name in [n for n in disk.names if n == was or n.startswith(f"{was}/")]:
            disk.names[will + name[len(was) :]] = disk.names.pop(name)
        disk.renamed()

    def chmod(self, path: str, mode: int) -> None:
        self._file(path, None)[1].mode = mode

    def chown(self, path: str, user: int, group: int) -> None:
        pass

    def utimens(self, path: str, times: object = None) -> None:
        pass


def main() -> None:
    import mfusepy  # needs the system's libfuse

    mount, direct = sys.argv[1], sys.argv[2:] == ["direct"]

    def unmount() -> None:
        sys.stdin.read()
        subprocess.run(["fusermount3", "-u", "-z", mount], check=False)
        os._exit(0)  # a file that is still open would keep it going

    threading.Thread(target=unmount, daemon=True).start()
    options = {"entry_timeout": 0, "attr_timeout": 0, "negative_timeout": 0, "direct_io": direct}
    mfusepy.FUSE(FileSystem(), mount, foreground=True, nothreads=True, use_ino=True, **options)


if __name__ == "__main__":
    main()
