"""A year in an hour: does anything grow, slow down or wear out the card?

    python -m benchmarks.longrun [--events 1000000] [--mqtt 200000] [--units 8192] [--folder FOLDER]

Events through the library, nine in ten of them repeats, with vectors that are made up; then bytes written to
the disk for an event, fresh or a repeat; then events through a broker and the real daemon, one in fifty
fresh.
For each tenth: resident MB (of 10^6 bytes), the database and the most that its log took, milliseconds: of the
processor alone in the library, and from telling or asking to the end in the daemon.

FOLDER has to be on a real disk, for the kernel counts no writes to a file system in RAM.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import sentences
from benchmarks.longrun_child import BATCHES, TENTHS, progress, written
from benchmarks.rig import ROOT, rig
from mda_core.ledger import MAX_DELIVERY_IDS
from mda_core.storage.database import LOG_PAGES, PAGE_BYTES
from mda_core.storage.journal import CHECKPOINT_EVERY, ring_size
from mda_daemon.client.client import Client

WRITES = 8192
"""Events a way of writing: several checkpoints."""
GOAL_RSS_MB = 2.0
GOAL_FRESH_BYTES, GOAL_REPEAT_BYTES = 8192, 1024
ENTRY_BYTES = 128
"""A journal entry at most: five numbers, two times, source, id, checksum, delivery ids."""
STATISTICS_BYTES = 256
"""In the checkpoint, for each unit: its statistics, and its salience twice."""
SUBSPACE_BYTES = 1 << 18
"""Subspace and metric, and the contexts of 256 sources and 256 ids."""
MQTT_UNITS = 2048
MQTT_FRESH = 50
MQTT_HELD = 256
"""A repeat is one of so many, the newest."""
MQTT_CHUNK = 1000
"""Events sent before waiting until they are learned: fewer than the daemon's queue takes."""
MQTT_RECALLS = 20
PAUSE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Tenth:
    """The state of a run at the end of one of its tenths."""

    events: int
    rss_mb: float
    database_bytes: int
    log_bytes: int
    learn_ms: float
    recall_ms: float


@dataclass(frozen=True, slots=True)
class Written:
    """Bytes per event: written to the disk, and passed to `write` and its like."""

    batch: int
    fresh: bool
    disk_bytes: float
    call_bytes: float


def bound(units: int, batch: int = max(BATCHES)) -> tuple[int, int]:
    """Upper bounds in bytes of a database and of its log, for texts that fit into the page of their unit.

    A page a unit, and a hundredth for the tree above; the journal's ring, on pages that may be half empty; a
    page for each vector that a replay needs between two checkpoints; the checkpoint.
    The log is emptied after so many pages, but the transaction that is under way is finished first: at most a
    whole checkpoint.
    """
    checkpoint = units * STATISTICS_BYTES + SUBSPACE_BYTES + MAX_DELIVERY_IDS * (1 + 64)
    pages = units + units // 100 + CHECKPOINT_EVERY + batch
    journal = 2 * ring_size(units) * ENTRY_BYTES
    return pages * PAGE_BYTES + journal + checkpoint, LOG_PAGES * (PAGE_BYTES + 24) + checkpoint


def library(folder: Path, units: int, events: int) -> Iterator[Tenth]:
    for line in _child("stream", folder, units, events):
        del line["tenth"]
        yield Tenth(**line)  # type: ignore[arg-type]


def writes(folder: Path, units: int, events: int) -> Iterator[Written]:
    for line in _child("write", folder, units, events):
        yield Written(int(line["batch"]), bool(line["fresh"]), line["disk_bytes"], line["call_bytes"])


def _child(task: str, folder: Path, units: int, events: int) -> Iterator[dict[str, float]]:
    command = [sys.executable, "-m", "benchmarks.longrun_child", task, str(folder), str(units), str(events)]
    environ = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # its threads would have memory of their own
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            yield json.loads(line)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)


def through_mqtt(folder: Path, events: int) -> Iterator[tuple[Tenth, int]]:
    """The same of the daemon, its times with broker and encoder; and the bytes that the disk took so far."""
    rng = random.Random(1)
    state = folder / "state"
    with rig({"home": MQTT_UNITS}, threads=1, state=state) as running, running.client("home") as client:
        texts = iter(sentences(events // MQTT_FRESH + MQTT_CHUNK))
        held = deque([(next(texts), "room0")], MQTT_HELD)
        before = written(running.pid)[0]
        sent = 0
        for tenth in range(1, TENTHS + 1):
            learn_ms, log_bytes = [], 0
            while sent < events * tenth // TENTHS:
                started, chunk = time.perf_counter(), min(MQTT_CHUNK, events * tenth // TENTHS - sent)
                for _ in range(chunk):
                    sent += 1
                    if sent % MQTT_FRESH == 0:
                        held.append((next(texts), f"room{sent // MQTT_FRESH % 8}"))
                    text, source = held[-1] if sent % MQTT_FRESH == 0 else rng.choice(held)
                    client.tell(text.encode(), source, MQTT_CHUNK)
                client.settle()
                _wait_handled(client, sent)
                learn_ms.append((time.perf_counter() - started) * 1e3 / chunk)
                log_bytes = max(log_bytes, (state / "home.db-wal").stat().st_size)
                progress(f"{sent} of {events} events through MQTT")
            recall_ms = [
                float(client.request("recall", {"query": rng.choice(held)[0]})["took_ms"])
                for _ in range(MQTT_RECALLS)
            ]
            size = (state / "home.db").stat().st_size
            learn, recall = statistics.median(learn_ms), statistics.median(recall_ms)
            found = Tenth(sent, running.settled_rss_mb(), size, log_bytes, learn, recall)
            yield found, written(running.pid)[0] - before


def _wait_handled(client: Client, count: int) -> None:
    while client.request("stats", {})["handled"] < count:
        time.sleep(PAUSE_SECONDS)


def show_library(folder: Path, units: int, events: int) -> None:
    print(f"\nlibrary, {units} units, nine repeats in ten")
    show_head()
    tenths = []
    for tenth in library(folder, units, events):
        tenths.append(tenth)
        show_tenth(tenth)
    show_tenths(tenths, bound(units))
    print("\nbytes written for an event, all units in use")
    for way in writes(folder, units, min(WRITES, events)):
        show_written(way)


def show_mqtt(folder: Path, events: int) -> None:
    print(f"\ndaemon, {MQTT_UNITS} units, one event in {MQTT_FRESH} fresh")
    show_head()
    tenths: list[Tenth] = []
    total = 0
    for tenth, disk in through_mqtt(folder, events):
        tenths.append(tenth)
        total = disk
        show_tenth(tenth)
    show_tenths(tenths, bound(MQTT_UNITS))
    print(f"  {'bytes to disk for an event':37} {total / events:.0f}")


def show_tenths(tenths: Sequence[Tenth], limits: tuple[int, int]) -> None:
    first, last = tenths[0], tenths[-1]
    most = [max(t.database_bytes for t in tenths), max(t.log_bytes for t in tenths)]
    grown = last.rss_mb - first.rss_mb
    print(f"  {'resident MB, last tenth less first':37} {grown:+.2f}  (goal: {GOAL_RSS_MB:g} at most)")
    for name, size, limit in zip(("database", "log"), most, limits, strict=True):
        print(f"  {name + ' MB at most, of its bound':37} {size / 1e6:.1f} of {limit / 1e6:.1f}")
    for name, ms in (("learn", "learn_ms"), ("recall", "recall_ms")):
        ratio = getattr(last, ms) / getattr(first, ms)
        print(f"  {name + ' time, last tenth / first':37} {ratio:.2f}")


def show_head() -> None:
    print(f"{'events':>10} {'RSS MB':>8} {'file MB':>8} {'log MB':>7} {'learn ms':>9} {'recall ms':>10}")


def show_tenth(t: Tenth) -> None:
    file, log = t.database_bytes / 1e6, t.log_bytes / 1e6
    figures = f"{t.rss_mb:8.2f} {file:8.2f} {log:7.2f} {t.learn_ms:9.3f} {t.recall_ms:10.2f}"
    print(f"{t.events:10} {figures}", flush=True)


def show_written(w: Written) -> None:
    what = f"  {'a fresh event' if w.fresh else 'a repeat'}, batches of {w.batch}"
    goal = GOAL_FRESH_BYTES if w.fresh else GOAL_REPEAT_BYTES
    print(f"{what:32} {w.disk_bytes:8.0f} to disk {w.call_bytes:8.0f} in calls  (goal: {goal})", flush=True)


def file_system(folder: Path) -> str:
    """The kind of file system that `folder` is on."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    inside = [(place, kind) for place, kind in mounts if folder.resolve().is_relative_to(place)]
    return max(inside, key=lambda mount: len(mount[0]))[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000, help="through the library; 0 for none")
    parser.add_argument("--mqtt", type=int, default=200_000, help="through the daemon; 0 for none")
    parser.add_argument("--units", type=int, default=8192, help="of the library's memory (default 8192)")
    parser.add_argument("--folder", type=Path, default=Path(), help="on a disk (default: the current one)")
    options = parser.parse_args()
    kind = file_system(options.folder)
    if kind in ("tmpfs", "ramfs"):
        parser.error(f"--folder: expected a folder on a disk, got one on {kind}")
    with tempfile.TemporaryDirectory(prefix="mda-bench-", dir=options.folder) as name:
        folder = Path(name).resolve()
        print(f"state files on {kind}")
        if options.events:
            show_library(folder, options.units, options.events)
        if options.mqtt:
            show_mqtt(folder, options.mqtt)


if __name__ == "__main__":
    main()
