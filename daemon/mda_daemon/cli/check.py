"""`mda check`: everything that a start would need, tried without starting; and what it will cost.

A line a subject, as soon as it is known; one that starts with FAILED says the way out.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from ..config.schema import Config
from ..errors import DaemonError
from ..host.estimate import disk_bytes, process_bytes
from ..host.memory_limits import available_bytes
from ..storage.lock import in_use
from ..text import one_line, quantity
from .access import Access

NAME_COLUMNS = 8
CLOCK_IS_SET = datetime(2024, 1, 1, tzinfo=UTC).timestamp()
# What the encoder that ships gives; only for arithmetic, where the model cannot be asked.
DIMS = 384


class Failure(DaemonError):
    """A subject that is not as it should be; the message says the way out."""


def check(config: Config, clock: Callable[[], float] = time.time) -> int:
    """Print one line a subject; 0 where all is well."""
    started = time.monotonic()
    failures = 0
    for name, subject in _subjects(config, clock):
        try:
            lines = subject()
        except (DaemonError, OSError) as exc:
            failures += 1
            lines = [f"FAILED: {exc}"]
        for line in lines:
            print(f"{name:{NAME_COLUMNS}}  {one_line(line)}", flush=True)
    seconds = time.monotonic() - started
    verdict = f"{failures} of these FAILED" if failures else "all is well"
    print(f"{'':{NAME_COLUMNS}}  {verdict}; this took {seconds:.1f} s")
    return 1 if failures else 0


Subject = Callable[[], list[str]]


def _subjects(config: Config, clock: Callable[[], float]) -> Iterator[tuple[str, Subject]]:
    yield "config", lambda: [f"base {config.base}, spaces {', '.join(config.spaces)}"]
    yield from _probed(config)
    with Access(config) as access:
        yield "broker", lambda: [access.reach()]
        if access.reached:
            yield "access", access.listen
        if access.listening:
            yield "daemon", lambda: [access.answer()]
    yield "RAM", lambda: [_ram(config)]
    yield "disk", lambda: [_disk(config)]
    yield "clock", lambda: [_clock(clock())]


# the child: see probe.py


def _probed(config: Config) -> Iterator[tuple[str, Subject]]:
    """Model and state, tried in a child: an illegal instruction, or the kernel, may end it."""
    state = _state(config)
    if state is not None:
        config = msgspec.structs.replace(config, spaces={})
    step, finished = "model", False
    # This very package, wherever it lies, and nothing that happens to lie in the working directory.
    command = [sys.executable, "-P", "-m", "mda_daemon.cli.probe"]
    package = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), package)))
    env = os.environ | {"PYTHONPATH": path}
    with (
        tempfile.TemporaryFile() as words,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=words, env=env
        ) as child,
        _Waiting() as waiting,
    ):
        assert child.stdin is not None and child.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it ended before it read a word
            child.stdin.write(msgspec.json.encode(config))
            child.stdin.close()
        for line in child.stdout:
            outcome = json.loads(line)
            step, finished = outcome["step"], len(outcome) > 1
            waiting.on(None if finished else step)
            if finished:
                yield step.split()[0], _said(outcome)
        code = child.wait()
        words.seek(0)
        last_words = words.read().decode("utf-8", "replace").strip()
    if not finished:
        yield step.split()[0], _ended(step, code, last_words)
    if state is not None:
        yield "state", state


def _state(config: Config) -> Subject | None:
    """What there is to say of the folder alone; None where there are files in it to try."""
    folder = config.state_folder

    def forbidden() -> list[str]:
        raise Failure(f"no right to read and write in {folder}: run this as the daemon's user, or as root")

    if in_use(folder):
        return lambda: [f"{folder} is in use by a running daemon"]
    if not os.path.exists(folder):  # False also where it may not be looked for
        return lambda: [f"{folder} will be created"]
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return forbidden
    if not any((folder / f"{name}.db").exists() for name in config.spaces):
        return lambda: [f"{folder}: no memories yet"]
    return None


def _said(outcome: dict[str, str]) -> Subject:
    def subject() -> list[str]:
        if "failed" in outcome:
            raise Failure(outcome["failed"])
        return [outcome["found"]]

    return subject


def _ended(step: str, code: int, last_words: str) -> Subject:
    """What it means that the child ended during `step`."""

    def subject() -> list[str]:
        raise Failure(f"{_death(code, last_words)} (while trying: {step})")

    return subject


def _death(code: int, last_words: str) -> str:
    runtime = f"onnxruntime {_version('onnxruntime')}"
    if code == -signal.SIGILL:
        return (
            f"an illegal instruction: this wheel of {runtime} or numpy {_version('numpy')} does not suit the "
            "processor. Install another version of it, newer or older, and check again"
        )
    if code == -signal.SIGKILL:
        left = available_bytes()
        return (
            "killed, most likely because memory ran out"
            + ("" if left is None else f" ({quantity(left)} available)")
            + ". Stop other programs, raise the limit (MemoryMax), or configure fewer units"
        )
    if code < 0:
        name = signal.Signals(-code).name
        return f"{runtime} crashed ({name}): a damaged download or card? Install it anew, and check again"
    ending = last_words.splitlines()[-1] if last_words else f"exit code {code}"
    return f"it ended with: {ending}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"


class _Waiting:
    """On a terminal: what is being tried now, until it is known."""

    def __init__(self) -> None:
        self._on = sys.stderr.isatty()

    def __enter__(self) -> _Waiting:
        self.on("model")
        return self

    def __exit__(self, *error: object) -> None:
        self.on(None)

    def on(self, step: str | None) -> None:
        if self._on:
            print("\r\x1b[K" + (f"{step} …" if step else ""), end="", file=sys.stderr, flush=True)


# the rest


def _ram(config: Config) -> str:
    needed = process_bytes([space.units for space in config.spaces.values()], DIMS)
    if in_use(config.state_folder):
        return f"about {quantity(needed)} when full, which the running daemon takes"
    left = available_bytes()
    if left is None:
        return f"about {quantity(needed)} when full"
    if left < needed:
        raise Failure(
            f"about {quantity(needed)} when full, but {quantity(left)} available: stop other programs, raise "
            "the limit of this control group (MemoryMax), or configure fewer units"
        )
    return f"about {quantity(needed)} when full, {quantity(left)} available"


def _disk(config: Config) -> str:
    folder = config.state_folder
    needed = sum(disk_bytes(space.units, DIMS, config.backup.keep) for space in config.spaces.values())
    there = sum(path.stat().st_size for name in config.spaces for path in folder.glob(f"{name}.db*"))
    existing = _existing(folder)
    free = shutil.disk_usage(existing).free
    if needed - there > free:
        raise Failure(
            f"about {quantity(needed)} when full, but {quantity(free)} free at {existing}: make room there, "
            "name another folder with `state:`, or configure fewer units"
        )
    if not os.access(existing, os.W_OK):
        raise Failure(
            f"no right to write in {existing}: run this as the daemon's user, or name another with `state:`"
        )
    return f"about {quantity(needed)} when full, {quantity(free)} free at {existing}"


def _clock(now: float) -> str:
    time_of_day = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M UTC")
    if now < CLOCK_IS_SET:
        raise Failure(
            f"{time_of_day}: not set. Events without a time of their own will be dated so, and no question "
            "about a time will find them. Let the network set it (`timedatectl set-ntp true`), or fit a "
            "battery-backed clock"
        )
    return time_of_day


def _existing(path: Path) -> Path:
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
