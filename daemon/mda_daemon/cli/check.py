"""`mda check`: tests everything that a start needs, without starting, and estimates RAM and disk use.

Prints one line per test as soon as its result is known. A line with FAILED says what to do about it.
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
"""A clock before this time, in epoch seconds, was never set."""
DIMS = 384
"""Dimensions of the bundled encoder: the estimates do not depend on whether the model can be loaded."""

Test = Callable[[], list[str]]
"""Returns the lines of its result, or raises DaemonError or OSError."""


class Failure(DaemonError):
    """A test that failed. The message says what to do about it."""


def check(config: Config, clock: Callable[[], float] = time.time) -> int:
    """Run all tests and print their results; 0 if none failed, else 1. `clock` returns epoch seconds."""
    started = time.monotonic()
    failures = 0
    for name, test in _tests(config, clock):
        try:
            lines = test()
        except (DaemonError, OSError) as exc:
            failures += 1
            lines = [f"FAILED: {exc}"]
        for line in lines:
            print(f"{name:{NAME_COLUMNS}}  {one_line(line)}", flush=True)
    seconds = time.monotonic() - started
    verdict = f"{failures} of these FAILED" if failures else "all is well"
    print(f"{'':{NAME_COLUMNS}}  {verdict}; this took {seconds:.1f} s")
    return 1 if failures else 0


def _tests(config: Config, clock: Callable[[], float]) -> Iterator[tuple[str, Test]]:
    yield "config", lambda: [f"base {config.base}, spaces {', '.join(config.spaces)}"]
    yield from _model_and_state(config)
    with Access(config) as access:
        yield "broker", lambda: [access.reach()]
        if access.reached:
            yield "access", access.listen
        if access.listening:
            yield "daemon", lambda: [access.answer()]
    yield "RAM", lambda: [_ram(config)]
    yield "disk", lambda: [_disk(config)]
    yield "clock", lambda: [_clock(clock())]


# Tests in a child process, see probe.py


def _model_and_state(config: Config) -> Iterator[tuple[str, Test]]:
    """Test model and state in a child process, which an illegal instruction or the kernel may end."""
    state = _state_folder(config)
    if state is not None:
        config = msgspec.structs.replace(config, spaces={})
    step, finished = "model", False
    # The child imports this package, wherever it is installed, and nothing from the working directory (-P).
    command = [sys.executable, "-P", "-m", "mda_daemon.cli.probe"]
    package = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), package)))
    env = os.environ | {"PYTHONPATH": path}
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=env
        ) as child,
        _StepDisplay() as display,
    ):
        assert child.stdin is not None and child.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it ended before it read its input
            child.stdin.write(msgspec.json.encode(config))
            child.stdin.close()
        for line in child.stdout:
            outcome = json.loads(line)
            step, finished = outcome["step"], len(outcome) > 1
            display.show(None if finished else step)
            if finished:
                yield step.split()[0], _result(outcome)
        code = child.wait()
        errors.seek(0)
        stderr = errors.read().decode("utf-8", "replace").strip()
    if not finished:
        yield step.split()[0], _crash(step, code, stderr)
    if state is not None:
        yield "state", state


def _state_folder(config: Config) -> Test | None:
    """The test of the state folder if its files cannot or need not be tested; None if they are to be."""
    folder = config.state_folder

    def forbidden() -> list[str]:
        raise Failure(f"no right to read and write in {folder}: run this as the daemon's user, or as root")

    if in_use(folder):
        return lambda: [f"{folder} is in use by a running daemon"]
    if not os.path.exists(folder):  # False also if this user may not look for it
        return lambda: [f"{folder} will be created"]
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return forbidden
    if not any((folder / f"{name}.db").exists() for name in config.spaces):
        return lambda: [f"{folder}: no memories yet"]
    return None


def _result(outcome: dict[str, str]) -> Test:
    """The test whose outcome the child has reported."""

    def test() -> list[str]:
        if "failed" in outcome:
            raise Failure(outcome["failed"])
        return [outcome["found"]]

    return test


def _crash(step: str, code: int, stderr: str) -> Test:
    """The test during which the child ended with exit code `code`."""

    def test() -> list[str]:
        raise Failure(f"{_explain_exit(code, stderr)} (while trying: {step})")

    return test


def _explain_exit(code: int, stderr: str) -> str:
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
    last_line = stderr.splitlines()[-1] if stderr else f"exit code {code}"
    return f"it ended with: {last_line}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"


class _StepDisplay:
    """On a terminal, shows the current step until its result is known."""

    def __init__(self) -> None:
        self._enabled = sys.stderr.isatty()

    def __enter__(self) -> _StepDisplay:
        self.show("model")
        return self

    def __exit__(self, *error: object) -> None:
        self.show(None)

    def show(self, step: str | None) -> None:
        if self._enabled:
            print("\r\x1b[K" + (f"{step} …" if step else ""), end="", file=sys.stderr, flush=True)


# RAM, disk and clock


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
    kept = sum(_size(folder / f"{name}.db.before-reencode") for name in config.spaces)
    needed += kept
    used = sum(path.stat().st_size for name in config.spaces for path in folder.glob(f"{name}.db*"))
    existing = _nearest_existing(folder)
    free = shutil.disk_usage(existing).free
    if needed - used > free:
        raise Failure(
            f"about {quantity(needed)} when full, but {quantity(free)} free at {existing}: make room there, "
            "name another folder with `state:`, or configure fewer units"
        )
    if not os.access(existing, os.W_OK):
        raise Failure(
            f"no right to write in {existing}: run this as the daemon's user, or name another with `state:`"
        )
    of_it = f" ({quantity(kept)} of it kept from before the encoder was changed)" if kept else ""
    return f"about {quantity(needed)} when full{of_it}, {quantity(free)} free at {existing}"


def _size(path: Path) -> int:
    """Bytes of a file, 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


def _clock(now: float) -> str:
    time_of_day = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M UTC")
    if now < CLOCK_IS_SET:
        raise Failure(
            f"{time_of_day}: not set. Events without a time of their own will be dated so, and no question "
            "about a time will find them. Let the network set it (`timedatectl set-ntp true`), or fit a "
            "battery-backed clock"
        )
    return time_of_day


def _nearest_existing(path: Path) -> Path:
    """`path` if it is an existing folder, else its nearest parent that exists."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
