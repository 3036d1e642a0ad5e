"""The whole daemon inside a memory limit that the kernel enforces, learning and answering; what units take.

python -m benchmarks.budget [--limit MB] [--data FOLDER]
python -m benchmarks.budget --sizes 8192 16384 32768 65536
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import sentences, who_questions
from benchmarks.datasets import locomo
from benchmarks.process import status_mb
from benchmarks.rig import Rig, rig
from benchmarks.speed import send
from benchmarks.start import THREADS, fill
from mda_core.encoding.encoder import DEFAULT_MODEL, Encoder
from mda_daemon.host.estimate import process_bytes

LIMIT_MB = 160
UNITS = 8192
LEARN = 3000
BEYOND = 300
"""Events more than there is room for: the memory forgets to take them in."""
CHUNK = 500
QUESTIONS = 20
CGROUPS = Path("/sys/fs/cgroup")
COPIES = Path("/var/tmp")
"""On a disk, where /tmp may be RAM."""
LIBRARIES = ("numpy", "numpy.libs", "onnxruntime", "msgspec", "paho", "yaml")


class ControlGroup:
    """A control group of the kernel, version 1 or 2, with or without a memory limit. MB are 10^6 bytes.

    Pages of the file cache that its processes are the first to read count too. The kernel drops them at the
    limit.
    """

    def __init__(self, path: Path, old: bool) -> None:
        self._path, self._old = path, old

    @property
    def prefix(self) -> list[str]:
        """The beginning of a command line that runs the rest inside."""
        return ["sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', str(self._path)]

    def enter(self) -> None:
        """Move this process inside."""
        self._write("cgroup.procs", os.getpid())

    def limit(self, limit: int) -> None:
        self._write("memory.limit_in_bytes" if self._old else "memory.max", limit)
        if not self._old and (self._path / "memory.swap.max").exists():
            self._write("memory.swap.max", 0)

    def peak_mb(self) -> float:
        """The peak memory use, with the file cache."""
        name = "memory.max_usage_in_bytes" if self._old else "memory.peak"
        return int((self._path / name).read_text("ascii")) / 1e6

    def own_mb(self) -> float:
        """Memory in use now that belongs to no file: the kernel cannot reclaim it."""
        return self._number("memory.stat", "rss" if self._old else "anon") / 1e6

    def kills(self) -> int:
        """How often the kernel has killed a process here because it was out of memory."""
        return self._number("memory.oom_control" if self._old else "memory.events", "oom_kill")

    def _number(self, file: str, name: str) -> int:
        lines = (self._path / file).read_text("ascii").splitlines()
        return int(next(line.split()[1] for line in lines if line.split()[0] == name))

    def _write(self, name: str, value: int) -> None:
        (self._path / name).write_text(str(value), "ascii")


@contextmanager
def unread() -> Iterator[tuple[Path, list[str]]]:
    """A copy of the model and of the large libraries that is not in the file cache, and the environment to
    use it.

    So the pages read from it count, as on a board that runs nothing else. Those of Python, about 10 MB, do
    not.
    """
    packages = Path(np.__file__).parents[1]
    with tempfile.TemporaryDirectory(prefix="mda-bench-", dir=COPIES) as name:
        for package in LIBRARIES:
            if (packages / package).is_dir():
                shutil.copytree(packages / package, Path(name, "lib", package))
        shutil.copytree(DEFAULT_MODEL, Path(name, "model"))
        for path in Path(name).rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        yield Path(name, "model"), ["env", f"PYTHONPATH={Path(name, 'lib')}"]


@contextmanager
def control_group(limit: int | None = None) -> Iterator[ControlGroup]:
    """A new control group; limit in bytes. Raises OSError without the permission, which takes root."""
    old = (CGROUPS / "memory").is_dir()
    path = (CGROUPS / "memory" if old else CGROUPS) / f"mda-{uuid.uuid4().hex[:8]}"
    path.mkdir()
    try:
        group = ControlGroup(path, old)
        if limit is not None:
            group.limit(limit)
        yield group
    finally:
        path.rmdir()


@dataclass(frozen=True, slots=True)
class Stage:
    """MB at most so far with the cache, and now without it; MB resident in the process; OOM kills so far."""

    name: str
    peak_mb: float
    own_mb: float
    resident_mb: float
    kills: int


@dataclass(frozen=True, slots=True)
class Size:
    """MB resident, at most and without files' pages, and on disk, with so many units in use."""

    units: int
    resident_mb: float
    most_mb: float
    own_mb: float
    estimate_mb: float
    disk_mb: float


def ask(running: Rig, questions: Sequence[str]) -> None:
    with running.client("home") as client:
        for question in questions:
            client.request("recall", {"query": question, "k": 10})


def used(running: Rig) -> tuple[int, int]:
    """Units in use, and memories forgotten."""
    with running.client("home") as client:
        stats = client.request("stats", {})
    return int(stats["units"]["used"]), int(stats["forgotten"])


def texts(data: Path | None, n: int) -> list[str]:
    """n different texts: turns of LoCoMo where there is any, and made-up sentences."""
    turns = [] if data is None else [e.text for c in locomo(data) for e in c.events]
    # The memory was filled with the first of these sentences.
    made_up = iter(sentences(UNITS + n)[UNITS:])
    return list(itertools.islice(itertools.chain(dict.fromkeys(turns), made_up), n))


def measure(limit_mb: float, units: int, learn: int, data: Path | None = None) -> list[Stage]:
    """Start with all but `learn` units full, learn until all are and `BEYOND` more, answer, start again.

    Raises TimeoutError or DaemonError where the daemon does not survive that.
    """
    learn = min(learn, units)
    questions = who_questions(QUESTIONS)
    with (
        tempfile.TemporaryDirectory(prefix="mda-bench-") as name,
        unread() as (model, command),
        control_group(int(limit_mb * 1e6)) as group,
    ):
        state = Path(name)
        if units > learn:
            fill(state / "home.db", units, units - learn)
        stages: list[Stage] = []
        prefix = [*group.prefix, *command]
        how: dict[str, Any] = {"threads": THREADS, "state": state, "model": model, "prefix": prefix}

        def stage(running: Rig, what: str) -> None:
            resident = status_mb("VmRSS", running.pid)
            stages.append(Stage(what, group.peak_mb(), group.own_mb(), resident, group.kills()))

        with rig({"home": units}, **how) as running:
            stage(running, f"online, {used(running)[0]:,} units in use")
            events = texts(data, learn + BEYOND)
            with running.client("home") as client:
                for i in range(0, len(events), CHUNK):
                    send(client, events[i : i + CHUNK])
                    ask(running, questions)
            held, forgotten = used(running)
            stage(running, f"{held:,} in use after {len(events):,} events, {forgotten:,} forgotten")
        with rig({"home": units}, **how) as running:
            ask(running, questions)
            stage(running, "started again, full, and asked")
            with running.client("home") as client:
                send(client, [f"After the restart {question}" for question in questions])
            stage(running, "and learning again")
        return stages


def size(units: int) -> Size:
    """A full memory of so many units, opened by the daemon, which recalls and learns a little."""
    questions = who_questions(QUESTIONS)
    with tempfile.TemporaryDirectory(prefix="mda-bench-") as name, control_group() as group:
        state = Path(name)
        fill(state / "home.db", units)
        with rig({"home": units}, threads=THREADS, state=state, prefix=group.prefix) as running:
            ask(running, questions)
            with running.client("home") as client:
                send(client, [f"Told to a full memory: {question}" for question in questions])
            resident = running.settled_rss_mb()
            most, own = status_mb("VmHWM", running.pid), group.own_mb()
        disk = sum(path.stat().st_size for path in state.glob("home.db*")) / 1e6
    estimate = process_bytes([units], Encoder(DEFAULT_MODEL).dims) / 1e6
    return Size(units, resident, most, own, estimate, disk)


def show(limit_mb: float, stages: Sequence[Stage]) -> None:
    print(f"limit {limit_mb:g} MB for the daemon; what it reads of files counts, and gives way at the limit")
    print(f"{'':52} {'peak':>8} {'without files':>14} {'resident':>9} {'killed':>7}")
    for s in stages:
        row = f"{s.peak_mb:>6.1f}MB {s.own_mb:>12.1f}MB {s.resident_mb:>7.1f}MB {s.kills:>7}"
        print(f"{s.name:52} {row}", flush=True)


def show_size(s: Size) -> None:
    print(
        f"{s.units:>7,} {s.resident_mb:>12.1f} {s.most_mb:>12.1f} {s.own_mb:>14.1f} "
        f"{s.estimate_mb:>12.1f} {s.disk_mb:>12.1f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--limit", type=float, default=LIMIT_MB, help=f"MB of 10^6 bytes (default {LIMIT_MB})"
    )
    parser.add_argument("--units", type=int, default=UNITS, help=f"default {UNITS}")
    parser.add_argument(
        "--learn", type=int, default=LEARN, help=f"events that the daemon encodes (default {LEARN})"
    )
    parser.add_argument("--data", type=Path, help="a folder with LoCoMo, whose turns are learned first")
    parser.add_argument(
        "--sizes", type=int, nargs="+", metavar="UNITS", help="no limit: what so many units take"
    )
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("only root may make a control group")
    if options.sizes:
        heads = ("resident MB", "at most MB", "without files", "estimated MB", "on disk MB")
        print(f"{'units':>7} " + " ".join(f"{h:>{12 if h != 'without files' else 14}}" for h in heads))
        for units in options.sizes:
            show_size(size(units))
    else:
        show(options.limit, measure(options.limit, options.units, options.learn, options.data))


if __name__ == "__main__":
    main()
