"""How much RAM this process may still take: what the system has, and what its control groups allow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

# Larger limits than any machine has mean none (version 1 writes 2^63 less a page).
NO_LIMIT = 1 << 60


def available_bytes(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """The least of MemAvailable and what each limit leaves; None where nothing can be read."""
    found = [left for left in (_of_system(proc / "meminfo"), *_of_limits(proc, cgroups)) if left is not None]
    return min(found, default=None)


def _of_system(meminfo: Path) -> int | None:
    try:
        lines = meminfo.read_text("utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def _of_limits(proc: Path, cgroups: Path) -> Iterator[int | None]:
    """What is left in the control group and in each one around it; version 2 or 1."""
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
            yield _left(folder, limit, usage)
            if folder == root:
                break


def _left(group: Path, limit: str, usage: str) -> int | None:
    try:
        most = int((group / limit).read_text("ascii"))
        used = int((group / usage).read_text("ascii"))
        stat = dict(line.split() for line in (group / "memory.stat").read_text("ascii").splitlines())
    except (OSError, ValueError):  # no such file here, or "max"
        return None
    # Files' pages in the cache count as used but give way.
    cached = sum(int(stat.get(name, 0)) for name in ("active_file", "inactive_file"))
    return most - max(0, used - cached) if most < NO_LIMIT else None
