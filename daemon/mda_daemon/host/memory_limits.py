"""How much more RAM this process may use, by the memory of the system and the limits of its cgroups."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

# A limit of this many bytes or more is none: cgroup v1 reports 2^63 less a page where none is set.
NO_LIMIT_BYTES = 1 << 60


def available_bytes(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """The least of MemAvailable and what each cgroup's limit leaves; None if nothing can be read."""
    available = (_mem_available(proc / "meminfo"), *_left_in_cgroups(proc, cgroups))
    return min((each for each in available if each is not None), default=None)


def _mem_available(meminfo: Path) -> int | None:
    try:
        lines = meminfo.read_text("utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def _left_in_cgroups(proc: Path, cgroups: Path) -> Iterator[int | None]:
    """The bytes left in the process's cgroup and in each of its parents, of cgroup v2 or v1."""
    try:
        lines = (proc / "self" / "cgroup").read_text("utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            root, limit, usage = cgroups, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            root, limit, usage = cgroups / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            yield _left_in_cgroup(folder, limit, usage)
            if folder == root:
                break


def _left_in_cgroup(group: Path, limit: str, usage: str) -> int | None:
    try:
        max_bytes = int((group / limit).read_text("ascii"))
        used = int((group / usage).read_text("ascii"))
        stat = dict(line.split() for line in (group / "memory.stat").read_text("ascii").splitlines())
    except (OSError, ValueError):  # the file does not exist, or says "max"
        return None
    # The page cache counts as used, but the kernel reclaims it when memory is needed.
    cached = sum(int(stat.get(name, 0)) for name in ("active_file", "inactive_file"))
    return max_bytes - max(0, used - cached) if max_bytes < NO_LIMIT_BYTES else None
