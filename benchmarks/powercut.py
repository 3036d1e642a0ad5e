"""Does a memory survive power cuts? No network; FUSE (Debian's package fuse3).

    python -m benchmarks.powercut [--faults] [--cuts N] [--seed N]

Each operation runs on a disk in memory that loses its power in the midst of a change drawn at random: a
write, a truncation, an fsync, a file made or removed. What a cut leaves is in the docstring of
`benchmarks.fusefs`: what was not synced is lost, or half of it. Half of those that had acknowledged
nothing yet run again on what is left and lose their power again, while they recover. Then the parent
opens what is left and delivers again what was not acknowledged, as after a kill in `benchmarks.faults`.

--faults: before that, at random, one to eight writes or syncs fail (no room, an I/O error), and what failed
is tried again by the same process.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.faults import ROOT, Count, Image, check, images
from benchmarks.faults_child import SENT, STATE, STEPS, finished
from benchmarks.fusefs import FAULTS, Disks, mounted, unavailable

NEVER = 1 << 30


@dataclass(frozen=True, slots=True)
class Cut:
    """For one operation: the change during which the power is cut, and the seed for what is left; how the
    disk fails before that, after how many operations of that kind, and for how many."""

    change: int
    seed: int
    errors: Mapping[str, str] = field(default_factory=dict)
    after: int = 0
    times: int = 0


def run(disks: Disks, folder: Path, states: Mapping[str, Path], cuts: Mapping[str, Cut]) -> None:
    """Run each operation on a disk of its own that holds its state; what is left is in folder/NAME."""
    for name, cut in cuts.items():
        left = folder / name
        left.mkdir(parents=True)
        shutil.copy(states[name] / SENT, left)
        disks[name].load(states[name], f"{STATE}*")
        disks[name].cut(left, after=cut.change, seed=cut.seed)
        disks[name].fail(after=cut.after, times=cut.times, **cut.errors)
    command = [sys.executable, "-m", "benchmarks.faults_child", "--disks", str(disks.mount), str(folder)]
    done = subprocess.run([*command, *cuts], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr[-2000:]}")
    for name in cuts:
        disks[name].cut(folder / name)  # where it had ended before


def operations(disks: Disks, folder: Path, made: Mapping[str, Image]) -> dict[str, Mapping[str, int]]:
    """How many of each kind each operation makes, undisturbed."""
    states = {name: image.folder for name, image in made.items()}
    run(disks, folder, states, {name: Cut(NEVER, 0) for name in made})
    assert all(finished(folder / name) == len(STEPS[name]) for name in made)
    shutil.rmtree(folder)
    return {name: disks[name].counts() for name in made}


def draw(rng: random.Random, total: Mapping[str, int], faults: bool) -> Cut:
    """A cut at a random change; of five one right after the end, when all is acknowledged."""
    end = total["changes"] + 1
    cut = Cut(end if rng.random() < 0.2 else rng.randrange(1, end), rng.randrange(1 << 32))
    if not faults:
        return cut
    errors = rng.choice(list(FAULTS.values()))
    # A disk that fails has more to do: the end is where it ends, so most are cut there.
    after = rng.randrange(total["fsync file" if "fsync" in errors else "write"])
    change = NEVER if rng.random() < 0.7 else cut.change
    return replace(cut, change=change, errors=errors, after=after, times=rng.randint(1, 8))


def measure(cuts: int = 200, seed: int = 1, *, faults: bool = False) -> dict[str, Count]:
    """The results of `cuts` power cuts, the same number for each operation."""
    rng = random.Random(seed)
    out = {name: Count() for name in STEPS}
    with tempfile.TemporaryDirectory(prefix="mda-bench-") as name:
        folder = Path(name).resolve()
        made = images(folder)
        with mounted(folder / "disks") as disks:
            total = operations(disks, folder / "undisturbed", made)
            for at in range(0, cuts, len(STEPS)):
                states = {name: made[name].folder for name in list(STEPS)[: cuts - at]}
                first = {name: draw(rng, total[name], faults) for name in states}
                run(disks, folder / "cut", states, first)
                where = {name: f"{name}, {first[name]} of {total[name]['changes']}" for name in states}
                silent = [name for name in states if not finished(folder / "cut" / name)]
                second = {n: draw(rng, total[n], faults) for n in silent if rng.random() < 0.5}
                left = {name: folder / "cut" / name for name in states}
                if second:
                    run(disks, folder / "again", left, second)
                for name in second:
                    left[name] = folder / "again" / name
                    where[name] += f", then {second[name]}"
                for name in states:
                    check(left[name], name, made[name], out[name], where[name])
                for done in ("cut", "again"):
                    shutil.rmtree(folder / done, ignore_errors=True)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--faults", action="store_true", help="the disk fails before")
    parser.add_argument("--cuts", type=int, default=200, metavar="N")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    why = unavailable()
    if why:
        raise SystemExit(why)
    counts = measure(options.cuts, options.seed, faults=options.faults)
    columns = ("tried", "opened", "kept", "equal", "gone")
    print(f"{'power cut during':22}" + "".join(f"{c:>8}" for c in columns))
    for operation, count in counts.items():
        print(f"{operation:22}" + "".join(f"{getattr(count, c):8}" for c in columns))
    print(f"{'all':22}" + "".join(f"{sum(getattr(n, c) for n in counts.values()):8}" for c in columns))
    for count in counts.values():
        for failure in count.failures:
            print(f"  {failure}")


if __name__ == "__main__":
    main()
