"""The longest time in which the worker shows no sign of life, at a fraction of a processor.

    python -m benchmarks.silence [--cores 0.25] [--units 8192] [--events 12]

The service manager's watchdog hears from the worker between pieces of work. Here it is played by a socket,
the daemon runs in a control group with so much of one core (root, control groups of version 1), and gets the
worst mix known: events of as many tokens as fit, recalls with and without a period while they are encoded,
and in the end `forget all`. With a period of .4 s the daemon reports each progress that is .1 s after the
last report: a gap is a silence and at most .1 s.
"""

from __future__ import annotations

import argparse
import os
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.rig import Rig, rig
from mda_core import DEFAULT_MODEL, Encoder, Event, Memory

CPU = Path("/sys/fs/cgroup/cpu")
PERIOD_US = 100_000
WATCHDOG_US = 400_000
LIMIT_SECONDS = 900.0


class Manager:
    """Hears the daemon's notifications, and keeps the longest time between two of its watchdog's."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(path)
        self._lock = threading.Lock()
        self._last: float | None = None
        self._longest = 0.0
        threading.Thread(target=self._listen, daemon=True).start()

    def longest_since(self) -> float:
        """Seconds of the longest silence since the last call."""
        with self._lock:
            found, self._longest = self._longest, 0.0
            return found

    def _listen(self) -> None:
        while True:
            said = self._socket.recv(4096)
            if b"WATCHDOG=1" in said:
                with self._lock:
                    now = time.monotonic()
                    if self._last is not None:
                        self._longest = max(self._longest, now - self._last)
                    self._last = now


@contextmanager
def processor(cores: float) -> Iterator[list[str]]:
    """What to put before a command so that it runs with so many cores. Raises OSError without the right."""
    group = CPU / f"mda-{uuid.uuid4().hex[:8]}"
    group.mkdir()
    try:
        (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
        (group / "cpu.cfs_quota_us").write_text(str(int(cores * PERIOD_US)))
        yield ["sh", "-c", f'echo $$ >"{group}/cgroup.procs"; exec "$@"', "sh"]
    finally:
        for _ in range(100):
            try:
                group.rmdir()
                break
            except OSError:  # its processes are still ending
                time.sleep(0.1)


def long_text(number: int) -> str:
    """As many tokens as 16 KiB of text can have: words of one letter, and something of its own."""
    return f"{number} " + " ".join("abcdefgh"[(number + i) % 8] for i in range(8100))


def fill(path: Path, units: int) -> None:
    """A full memory, learned at the speed of the whole machine."""
    with Memory.open(path, units=units, encoder=Encoder(DEFAULT_MODEL)) as memory:
        for start in range(0, units, 256):
            memory.learn_many(
                [Event(f"The parcel number {start + i} arrived", f"door/{i % 8}") for i in range(256)]
            )


def measure(running: Rig, manager: Manager, events: int) -> dict[str, float]:
    """Seconds of the longest silence in each stage."""
    found: dict[str, float] = {}
    with running.client("home") as client:
        manager.longest_since()
        for number in range(events):
            client.tell(long_text(number).encode(), "hall", window=events)
        client.settle()
        deadline = time.monotonic() + LIMIT_SECONDS
        since = time.time() - 3600
        while client.request("stats", {})["handled"] < events and time.monotonic() < deadline:
            client.request("recall", {"query": "was a door left open?", "k": 10})
            client.request("recall", {"query": "a b c d e", "since": since, "k": 10})
        found["learning the longest events, asked meanwhile"] = manager.longest_since()
        client.request("forget", {"all": True})
        found["forget all"] = manager.longest_since()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cores", type=float, default=0.25)
    parser.add_argument("--units", type=int, default=8192)
    parser.add_argument("--events", type=int, default=12)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mda-bench-") as folder, processor(options.cores) as prefix:
        manager = Manager(f"{folder}/notify")
        os.environ["NOTIFY_SOCKET"] = f"{folder}/notify"
        os.environ["WATCHDOG_USEC"] = str(WATCHDOG_US)
        os.environ.pop("WATCHDOG_PID", None)
        state = Path(folder, "state")
        state.mkdir(mode=0o700)
        fill(state / "home.db", options.units)
        with rig({"home": options.units}, prefix=prefix, state=state) as running:
            found = measure(running, manager, options.events)
    print(f"the longest silence of the worker, {options.cores:g} cores, {options.units:,} units")
    for stage, seconds in found.items():
        print(f"  {stage:<46}{seconds:6.2f} s")


if __name__ == "__main__":
    main()
