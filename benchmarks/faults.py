"""Does a memory survive kill -9 at every write? And what does it say of a damaged file? No network.

    python -m benchmarks.faults [--sample N] [--random N] [--damage] [--seed N]

Without options: each operation is killed before each system call that writes to the state, with
strace (Debian's package strace). The call itself does not happen; what comes before it stays, as after every
kill -9, for the system keeps its cache: power cuts are another matter. Then the parent opens what is left and
delivers again what was not acknowledged. --sample N takes at most N calls of each kind. --random N kills one
long-running memory at N random moments. --damage opens damaged files.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.faults_child import (
    BATCH,
    LOOP,
    SECRET,
    SENT,
    STATE,
    STEPS,
    Hashed,
    delivery_id,
    event,
    finished,
    next_event,
    open_memory,
    perform,
)
from mda_core import Memory, StateError
from mda_core.storage.database import files

ROOT = Path(__file__).resolve().parents[1]
CALLS = (
    "pwrite64", "write", "writev", "pwritev", "fsync", "fdatasync", "ftruncate", "rename", "renameat",
    "renameat2", "unlink", "unlinkat",
)  # fmt: skip
"""All that can change or sync a file; a machine need not have each of them."""
FULL = 300
"""Events after which all units are in use, so that others are evicted."""
OLD = {version: ROOT / "tests" / "data" / f"format{version}.tar.gz" for version in (2, 3)}
"""Memories in older formats, as a kill left them."""
OLD_EVENTS = 330
"""Events that they have learned."""
PAUSE_SECONDS = 0.25
"""A random kill comes at most so long after the first acknowledgement of its process."""
FLIPS = 500


@dataclass(slots=True)
class Count:
    """Kills of one operation at one kind of system call, and how many of them did no harm."""

    tried: int = 0
    opened: int = 0
    kept: int = 0
    """Every acknowledged event was there, and none twice."""
    equal: int = 0
    """The digest, in the end, was that of an undisturbed run."""
    gone: int = 0
    """Nothing of an event whose forgetting was acknowledged was in any file; all where none was."""
    failures: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return self.tried == self.opened == self.kept == self.equal == self.gone


@dataclass(frozen=True, slots=True)
class Image:
    """A state as a kill leaves it, before its operation; the digest and the events after it."""

    folder: Path
    sent: int
    held: int
    digest: str
    learned: int


def unavailable() -> str | None:
    """Why nothing can be killed by its system calls here; None where it can."""
    if shutil.which("strace") is None:
        return "strace is not installed (Debian: apt-get install strace)"
    tried = subprocess.run(["strace", "-f", "-e", "trace=none", "true"], capture_output=True, text=True)
    return None if tried.returncode == 0 else f"ptrace is not permitted here: {tried.stderr.strip()[-200:]}"


# images


def learned(memory: Memory) -> int:
    """Events that the memory counts over its life, repeats included."""
    stats = memory.stats()
    new, again = stats["learned"], stats["reinforced"]
    assert isinstance(new, int) and isinstance(again, int)
    return new + again


def images(folder: Path) -> dict[str, Image]:
    """A state for each operation, copied while it is open: its journal is not in a checkpoint yet."""
    made: dict[str, Image] = {}
    work, before = folder / "work", folder / "before"
    work.mkdir()
    made["first start"] = _image(folder, "first start", None, 0)
    unpack_old(min(OLD), folder / "old")
    made["upgrade"] = _image(folder, "upgrade", folder / "old", OLD_EVENTS)
    memory, sent = open_memory(work / STATE), 0
    try:
        while not {"learn", "checkpoint", "move the log"} <= made.keys():
            shutil.rmtree(before, ignore_errors=True)
            shutil.copytree(work, before)
            moved, checkpoint = (work / STATE).read_bytes(), _checkpointed(memory)
            perform(memory, "learn", sent)
            if moved != (work / STATE).read_bytes():
                _add(made, folder, "move the log", before, sent)
            elif sent >= FULL and checkpoint != _checkpointed(memory):
                _add(made, folder, "checkpoint", before, sent)
            elif sent >= FULL and "learn" not in made:
                for name in ("learn", "close", "reopen, learn, close"):
                    _add(made, folder, name, work, sent + BATCH)
            sent += BATCH
        memory.learn_many([SECRET])
        made["forget"] = _image(folder, "forget", work, sent)
    finally:
        memory.close()
    return made


def unpack_old(version: int, folder: Path) -> None:
    """The memory in the format `version`."""
    with tarfile.open(OLD[version]) as archive:
        # As an argument it is known from Python 3.11.4 on, and Debian 12 has 3.11.2.
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
        archive.extractall(folder)


def _checkpointed(memory: Memory) -> int:
    assert memory._ledger is not None
    return memory._ledger.checkpointed


def _add(made: dict[str, Image], folder: Path, name: str, state: Path, sent: int) -> None:
    if name not in made:
        made[name] = _image(folder, name, state, sent)


def _image(folder: Path, name: str, state: Path | None, sent: int) -> Image:
    """The image, with what an undisturbed run of its operation leads to."""
    image = folder / "images" / name
    if state is None:
        image.mkdir(parents=True)
    else:
        shutil.copytree(state, image)
    (image / SENT).write_text(str(sent))
    undisturbed = folder / "undisturbed"
    shutil.copytree(image, undisturbed)
    with open_memory(undisturbed / STATE) as memory:
        held = learned(memory)
        for i, step in enumerate(STEPS[name]):
            if step != "close":
                perform(memory, step, next_event(sent, STEPS[name][:i]))
        found = Image(image, sent, held, memory.digest(), learned(memory))
    shutil.rmtree(undisturbed)
    return found


# killing by system call


def run(folder: Path, names: Sequence[str], tracing: Sequence[str]) -> dict[str, tuple[int, int]]:
    """(process id, exit code) of these operations below strace, which counts the calls of each by itself."""
    paths = []
    for name in names:
        state = folder / name / STATE
        for path in (state, Path(f"{state}.new"), Path(f"{state}.format{min(OLD)}")):
            paths += [word for each in files(path) for word in ("-P", str(each))]
        paths += ["-P", str(state.parent)]
    # Not --seccomp-bpf, which would be faster: with it strace 6.1 injects no signal into a fork.
    command = ["strace", "-f", "-q", *tracing, *paths]
    command += [sys.executable, "-m", "benchmarks.faults_child", str(folder), *names]
    environment = {
        **os.environ,
        "OPENBLAS_NUM_THREADS": "1",
    }  # a fork of threads would be a chance of its own
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr[-2000:]}")
    return {name: (pid, code) for name, (pid, code) in json.loads(done.stdout).items()}


def calls(made: Mapping[str, Image], folder: Path) -> dict[str, collections.Counter[str]]:
    """How often each operation makes each system call on its state, undisturbed."""
    count, log = folder / "count", folder / "count.log"
    for name, image in made.items():
        shutil.copytree(image.folder, count / name)
    traced = ",".join(f"?{c}" for c in CALLS)
    ended = run(count, list(made), ["-e", f"trace={traced}", "-o", str(log)])
    assert not any(code for _, code in ended.values()), ended
    out: dict[str, collections.Counter[str]] = {name: collections.Counter() for name in made}
    of = {pid: out[name] for name, (pid, _) in ended.items()}
    for line in log.read_text("utf-8").splitlines():
        pid, what = line.split(maxsplit=1)
        if "(" in what and int(pid) in of:
            of[int(pid)][what.split("(")[0]] += 1
    return out


def check(folder: Path, name: str, image: Image, count: Count, where: str) -> None:
    """Open what a kill left, deliver again what was not acknowledged, and compare."""
    steps, done = STEPS[name], finished(folder)
    least = image.held + next_event(0, steps[:done])
    most = least + (BATCH if "learn" in steps[done : done + 1] else 0)
    count.tried += 1
    traces = secrets(folder) if "forget" in steps[:done] else []
    try:
        memory = open_memory(folder / STATE)
    except StateError as exc:
        count.failures.append(f"{where}: not opened: {exc}")
        return
    count.opened += 1
    with memory:
        found = learned(memory)
        for i, step in enumerate(steps):
            if i >= done and step != "close":
                perform(memory, step, next_event(image.sent, steps[:i]))
        again, digest = learned(memory), memory.digest()
        if "forget" in steps:
            traces += [f"{t}, sent again" for t in secrets(folder)]
    if "forget" in steps:
        traces += [f"{t}, closed" for t in secrets(folder)]
    if least <= found <= most and again == image.learned:
        count.kept += 1
    else:
        count.failures.append(
            f"{where}: {found} events, not {least} to {most}; then {again}, not {image.learned}"
        )
    if digest == image.digest:
        count.equal += 1
    else:
        count.failures.append(f"{where}: another digest")
    if not traces:
        count.gone += 1
    else:
        count.failures.append(f"{where}: not gone: {'; '.join(traces)}")


def secrets(folder: Path) -> list[str]:
    """Where something of the secret is left: its text, its id, its vector."""
    assert SECRET.id is not None
    parts = {"text": SECRET.text.encode(), "id": SECRET.id.encode()}
    parts["vector"] = Hashed().encode([SECRET.text])[0].tobytes()
    files = {path.name: path.read_bytes() for path in sorted(folder.glob(f"{STATE}*"))}
    return [
        f"{part} in {name}" for name, data in files.items() for part, what in parts.items() if what in data
    ]


def measure(sample: int | None = None) -> dict[tuple[str, str], Count]:
    """Kills by operation and system call; at most `sample` calls of a kind, evenly spread."""
    out: dict[tuple[str, str], Count] = {}
    with tempfile.TemporaryDirectory(prefix="mda-bench-") as name:
        folder = Path(name).resolve()
        made = images(folder)
        counted = calls(made, folder)
        plan: dict[tuple[str, int], list[str]] = collections.defaultdict(list)
        for operation, of in counted.items():
            for call, times in of.items():
                out[operation, call] = Count()
                # The same numbers for all operations: one strace kills each of them at its call n.
                for n in _spread(max(c[call] for c in counted.values()), sample):
                    if n <= times:
                        plan[call, n].append(operation)
        for (call, n), operations in plan.items():
            killed = folder / "killed"
            for operation in operations:
                shutil.copytree(made[operation].folder, killed / operation)
            inject = ["-o", os.devnull, "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={n}"]
            ended = run(killed, operations, inject)
            assert {code for _, code in ended.values()} == {-signal.SIGKILL}, (call, n, ended)
            for operation in operations:
                where = f"{operation}, {call} {n} of {counted[operation][call]}"
                check(killed / operation, operation, made[operation], out[operation, call], where)
            shutil.rmtree(killed)
    return out


def _spread(most: int, sample: int | None) -> list[int]:
    """1 to `most`, or about `sample` of them, each a multiple of the one before."""
    if sample is None or most <= sample:
        return list(range(1, most + 1))
    return sorted({round(most ** (i / max(1, sample - 1))) for i in range(sample)})


# killing at random moments


@dataclass(frozen=True, slots=True)
class Moments:
    """One memory killed again and again: its kills, its acknowledged events, and what came of them."""

    kills: int
    opened: int
    kept: int
    equal: bool
    events: int
    unacknowledged: int
    """Kills between a commit and its acknowledgement: the batch came again and was recognised."""


def moments(kills: int, seed: int = 1) -> Moments:
    """Kill the loop `kills` times; each new process goes on where the last one's acknowledgements end."""
    rng = random.Random(seed)
    opened = kept = between = 0
    with tempfile.TemporaryDirectory(prefix="mda-bench-") as name:
        folder = Path(name) / LOOP
        folder.mkdir()
        for _ in range(kills):
            _kill_after(Path(name), rng.uniform(0, PAUSE_SECONDS))
            acknowledged = finished(folder) * BATCH
            shutil.copytree(folder, Path(name) / "copy")  # opened and closed here, it would be tidied up
            try:
                with open_memory(Path(name) / "copy" / STATE) as memory:
                    opened += 1
                    found = learned(memory)
                kept += found in (acknowledged, acknowledged + BATCH)
                between += found == acknowledged + BATCH
            except StateError as exc:
                print(exc, file=sys.stderr)
            shutil.rmtree(Path(name) / "copy")
        batches = finished(folder)
        with open_memory(folder / STATE) as memory:
            perform(memory, "learn", batches * BATCH)
            digest = memory.digest()
        total = (batches + 1) * BATCH
        with open_memory(Path(name) / "undisturbed.db") as memory:
            for at in range(0, total, 100):
                numbers = range(at, min(at + 100, total))
                memory.learn_many([event(n) for n in numbers], delivery_ids=[delivery_id(n) for n in numbers])
            equal = digest == memory.digest() and learned(memory) == total
    return Moments(kills, opened, kept, equal, total, between)


def _kill_after(folder: Path, seconds: float) -> None:
    """Start the loop, and kill it so long after its first acknowledgement."""
    before = finished(folder / LOOP)
    command = [sys.executable, "-c", _LOOP, str(folder / LOOP)]
    child = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})
    try:
        while finished(folder / LOOP) == before and child.poll() is None:
            time.sleep(0.001)
        time.sleep(seconds)
    finally:
        child.kill()
        child.wait()


_LOOP = f"""
import pathlib, sys
from benchmarks.faults_child import operate
operate(pathlib.Path(sys.argv[1]), {LOOP!r})
"""


# damage


def damage(flips: int = FLIPS, seed: int = 1) -> dict[str, collections.Counter[str]]:
    """What opening says of damaged files: refused, same digest, other digest, or another exception."""
    out: dict[str, collections.Counter[str]] = {}
    with tempfile.TemporaryDirectory(prefix="mda-bench-") as name:
        folder = Path(name)
        work, closed, killed = folder / "work", folder / "closed", folder / "killed"
        work.mkdir()
        with open_memory(work / STATE) as memory:
            for at in range(0, FULL, BATCH):
                perform(memory, "learn", at)
            digest = memory.digest()
            shutil.copytree(work, killed)  # with its log, as a kill leaves it
        shutil.copytree(work, closed)
        size = (closed / STATE).stat().st_size
        log = f"{STATE}-wal"

        def say(what: str, base: Path, harm: Callable[[Path], object]) -> None:
            broken = folder / "broken"
            shutil.copytree(base, broken)
            harm(broken)
            out.setdefault(what, collections.Counter())[_open(broken / STATE, digest)] += 1
            shutil.rmtree(broken)

        say("as it was", closed, lambda f: None)
        say("empty", closed, lambda f: os.truncate(f / STATE, 0))
        say("cut to half", closed, lambda f: os.truncate(f / STATE, size // 2))
        say("a folder", closed, _folder)
        say("read-only" + (" (root writes anyway)" * (os.geteuid() == 0)), closed, _read_only)
        say("killed: its log lost", killed, lambda f: (f / log).unlink())
        say("killed: its log cut to half", killed, lambda f: os.truncate(f / log, _size(f / log) // 2))
        for what, base, file in (("a bit flipped", closed, STATE), ("killed: a bit of its log", killed, log)):
            rng = random.Random(seed)
            for _ in range(flips):
                say(what, base, lambda f, rng=rng, file=file: _flip(f / file, rng))  # type: ignore[misc]
    return out


def _size(path: Path) -> int:
    return path.stat().st_size


def _folder(folder: Path) -> None:
    (folder / STATE).unlink()
    (folder / STATE).mkdir()


def _read_only(folder: Path) -> None:
    (folder / STATE).chmod(0o400)


def _flip(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def _open(path: Path, digest: str) -> str:
    try:
        memory = open_memory(path)
    except StateError:
        return "refused"
    except Exception as exc:  # to be counted: nothing but StateError should come out
        return f"{type(exc).__name__}"
    try:
        with memory:
            return "same digest" if memory.digest() == digest else "OTHER digest"
    except StateError:
        return "refused later"
    except Exception as exc:
        return f"{type(exc).__name__} later"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sample", type=int, metavar="N", help="at most N calls of each kind")
    parser.add_argument(
        "--random", type=int, nargs="?", const=200, metavar="N", help="N random moments, 200 by default"
    )
    parser.add_argument("--damage", action="store_true", help="open damaged files")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.random is not None:
        print(moments(options.random, options.seed))
    if options.damage:
        for what, found in damage(seed=options.seed).items():
            print(f"{what:34}" + ", ".join(f"{n} {how}" for how, n in found.most_common()))
    if options.random is not None or options.damage:
        return
    why = unavailable()
    if why:
        raise SystemExit(why)
    counts = measure(options.sample)
    columns = ("tried", "opened", "kept", "equal", "gone")
    print(f"{'killed during':22}{'before':12}" + "".join(f"{c:>8}" for c in columns))
    for (operation, call), count in counts.items():
        print(f"{operation:22}{call:12}" + "".join(f"{getattr(count, c):8}" for c in columns))
    print(f"{'all':34}" + "".join(f"{sum(getattr(n, c) for n in counts.values()):8}" for c in columns))
    for count in counts.values():
        for failure in count.failures:
            print(f"  {failure}")


if __name__ == "__main__":
    main()
