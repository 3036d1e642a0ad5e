"""Puts one small fault at a time into a copy of the project and runs the tests that have to notice it.

    python -m tests.mutants             all of mutants.toml; the exit code is 1 where one was not noticed
    python -m tests.mutants -k forget   those whose name holds this
    python -m tests.mutants --list      their names, and what each breaks

The project itself is never changed. First the same tests run without a fault: one that fails then would
show nothing.
"""

from __future__ import annotations

import argparse
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tests.mutants import Mutant, load
from tests.support import ROOT

LIMIT = 300.0
"""Seconds after which a test that hangs has noticed."""
_LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "state", "bench-out")


class Copy:
    """A copy of the project, into which faults are put and taken out again."""

    def __init__(self, folder: Path) -> None:
        shutil.copytree(ROOT, folder, symlinks=True, ignore=_LEFT_OUT)
        self.folder = folder
        self._written = 0

    def write(self, file: str, text: str) -> None:
        """Each time with another date, by which Python knows that it has to compile it anew."""
        path = self.folder / file
        path.write_text(text, "utf-8")
        self._written += 1
        os.utime(path, (self._written, self._written))

    def test(self, tests: Iterable[str], *more: str) -> tuple[int | None, str]:
        """pytest's exit code, None where it did not end; and what it printed."""
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *more, *tests]
        paths = os.pathsep.join((str(self.folder), str(self.folder / "daemon")))
        # A test that has to fail must not wait for long until it does.
        env = {"MDA_TEST_PATIENCE": "0.15", **os.environ, "PYTHONPATH": paths}
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        with process:
            try:
                said, _ = process.communicate(timeout=LIMIT)
            except subprocess.TimeoutExpired:
                process.kill()
                return None, ""
        return process.returncode, said


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("-k", metavar="TEXT", default="", help="only those whose name holds this")
    parser.add_argument(
        "-j", metavar="N", type=int, default=2 * (os.cpu_count() or 1), help="this many at once"
    )
    parser.add_argument("--list", action="store_true", help="print their names, and what each breaks")
    parser.add_argument("-v", action="store_true", help="print what the tests say of a fault, too")
    options = parser.parse_args()
    chosen = [mutant for mutant in load() if options.k in mutant.name]
    if options.list or not chosen:
        for mutant in chosen:
            print(f"{mutant.name}: {mutant.breaks}")
        return 0 if chosen else 1
    with tempfile.TemporaryDirectory(prefix="mda-mutants-") as folder:
        return _run(chosen, Path(folder), max(1, min(options.j, len(chosen))), options.v)


def _run(chosen: list[Mutant], folder: Path, at_once: int, verbose: bool) -> int:
    copies: queue.SimpleQueue[Copy] = queue.SimpleQueue()
    for i in range(at_once):
        copies.put(Copy(folder / str(i)))
    bad = _without_a_fault(chosen, copies, at_once)
    if bad:
        print(bad)
        return 1

    def one(mutant: Mutant) -> tuple[Mutant, int | None, str, float]:
        copy, started = copies.get(), time.monotonic()
        text = (ROOT / mutant.file).read_text("utf-8")
        try:
            copy.write(mutant.file, mutant.applied(text))
            return mutant, *copy.test(mutant.tests), time.monotonic() - started
        finally:
            copy.write(mutant.file, text)
            copies.put(copy)

    left: list[Mutant] = []
    with ThreadPoolExecutor(at_once) as pool:
        for done in as_completed([pool.submit(one, mutant) for mutant in chosen]):
            mutant, code, said, seconds = done.result()
            noticed = code in (1, None)
            result = "noticed" if noticed else "NOT NOTICED"
            hung = ", the test hung" if code is None else ""
            print(f"{result}  {mutant.name}  ({seconds:.1f} s{hung})", flush=True)
            if not noticed:
                left.append(mutant)
            if verbose or code not in (0, 1, None):
                print(said)
    print(f"{len(chosen) - len(left)} of {len(chosen)} noticed")
    for mutant in left:
        print(f"NOT NOTICED  {mutant.name} in {mutant.file}: {mutant.breaks}")
    return int(bool(left))


def _without_a_fault(chosen: list[Mutant], copies: queue.SimpleQueue[Copy], at_once: int) -> str:
    """What the tests say where one fails as it is; nothing where all pass."""
    copy = copies.get()
    tests = sorted({test for mutant in chosen for test in mutant.tests})
    code, said = copy.test(tests, "-n", str(2 * at_once), "--dist", "loadfile")
    copies.put(copy)
    if code == 0:
        print(f"{len(tests)} tests pass without a fault", flush=True)
        if " skipped" in said:
            print("some were skipped (see make test): what only they notice is not noticed here", flush=True)
        return ""
    return f"{said}\nnot all of these tests pass without a fault"


if __name__ == "__main__":
    sys.exit(main())
