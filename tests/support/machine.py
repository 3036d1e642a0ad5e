"""A machine of its own for a test: systemd as the first process, in namespaces, over this file system.

What is written there is in memory and gone at the end; only `/tmp`, devices and the network are shared. It
takes root, overlayfs and control groups that may be made, which a container seldom has: `Impossible` says
what is missing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import uuid
from pathlib import Path

from tests.support.harness import WAIT

CGROUPS = Path("/sys/fs/cgroup")
PLACES = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where its commands are, whatever the tests' own PATH has before them."""
CONTROLLERS = ("memory", "pids", "cpu", "cpuacct", "devices", "blkio")
SYSTEMD = next((p for p in ("/lib/systemd/systemd", "/usr/lib/systemd/systemd") if Path(p).exists()), None)

# Runs in the new namespaces. $1: an empty folder, $2: the program to end in.
_BOOT = r"""
set -eu
mount -t tmpfs tmpfs "$1"
cd "$1"
mkdir upper work root
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" root
cd root
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount --rbind /dev dev
mount -t tmpfs tmpfs dev/shm
mount --rbind /tmp tmp
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=755 tmpfs etc/systemd/system
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mount -t cgroup2 cgroup2 sys/fs/cgroup
else
    mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
    cd sys/fs/cgroup
    mkdir unified systemd
    mount -t cgroup2 cgroup2 unified
    mount -t cgroup -o none,name=systemd cgroup systemd
    for each in memory pids cpu cpuacct devices blkio; do
        mkdir $each
        mount -t cgroup -o $each cgroup $each
    done
    cd ../../..
fi
# The targets that a unit refers to by default, and nothing of this machine's own services.
mkdir run/targets
for each in default sysinit basic multi-user shutdown network-online umount final halt; do
    printf '[Unit]\nDefaultDependencies=no\n' >run/targets/$each.target
done
mkdir -p tmp-of-before
pivot_root . tmp-of-before
umount -l /tmp-of-before
# Systemd does so itself, but for the container that this looks like; credentials need it.
mount --make-rshared /
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin SYSTEMD_LOG_TARGET=console \
    SYSTEMD_UNIT_PATH=/etc/systemd/system:/run/targets "$2" --system --show-status=no </dev/null
"""


class Impossible(Exception):
    """Why there can be no such machine here."""


class Machine:
    """Boots when it is made. Raises Impossible."""

    def __init__(self, folder: Path) -> None:
        if os.geteuid() != 0:
            raise Impossible("a systemd of its own takes root")
        if SYSTEMD is None or not all(map(shutil.which, ("unshare", "nsenter", "systemctl", "pivot_root"))):
            raise Impossible("systemd or util-linux is not installed")
        folder.mkdir()
        self._log = folder.with_suffix(".log")
        self._groups = self._make_groups()
        enter = "".join(f'echo $$ >"{group}/cgroup.procs"; ' for group in self._groups)
        namespaces = "--mount --pid --fork --kill-child --uts --ipc --cgroup"
        command = f'{enter} exec unshare {namespaces} sh -c "$1" boot "$2" "$3"'
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["sh", "-ec", command, "sh", _BOOT, str(folder), SYSTEMD],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            self._wait_until_up()
        except BaseException:
            self.close()
            raise

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in it, as root; with `check` it has to succeed."""
        result = subprocess.run(
            ["nsenter", "--target", str(self._init), "--all", "env", f"PATH={PLACES}", *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=3 * WAIT,
            check=False,
        )
        assert not check or result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
        return result

    def show(self, unit: str, name: str) -> str:
        """A property of a unit, as `systemctl show` has it."""
        return self.run("systemctl", "show", "--property", name, "--value", unit).stdout.strip()

    def write(self, path: str, text: str) -> None:
        self.run("sh", "-c", 'mkdir -p "$(dirname "$1")"; printf %s "$2" >"$1"', "sh", path, text)

    def read(self, path: str) -> str:
        return self.run("cat", path).stdout

    def close(self) -> None:
        self._process.kill()  # and with it, by --kill-child, everything in it
        self._process.wait(WAIT)
        deadline = time.monotonic() + WAIT
        for group in self._groups:
            for folder, _, _ in os.walk(group, topdown=False):
                while Path(folder).exists():
                    try:
                        Path(folder).rmdir()
                    except OSError:  # its last processes are still ending
                        assert time.monotonic() < deadline, folder
                        time.sleep(0.01)

    def _make_groups(self) -> list[Path]:
        name = f"mda-test-{uuid.uuid4().hex[:8]}"
        if (CGROUPS / "cgroup.controllers").exists():
            groups = [CGROUPS / name]
        elif (CGROUPS / "unified").exists():
            groups = [CGROUPS / each / name for each in ("systemd", "unified", *CONTROLLERS)]
        else:
            raise Impossible("no control groups are mounted")
        try:
            for group in groups:
                group.mkdir()
        except OSError as exc:
            raise Impossible(f"no control group can be made: {exc}") from exc
        return groups

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + WAIT
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise Impossible(f"no systemd of its own starts here: {self._log.read_text()[-500:]}")
            if (init := self._find_init()) is not None:
                self._init = init
                if self.run("systemctl", "is-system-running", check=False).stdout.strip() == "running":
                    return
            time.sleep(0.02)
        raise Impossible(f"systemd does not come up here: {self._log.read_text()[-500:]}")

    def _find_init(self) -> int | None:
        """The pid of its first process, once that is systemd."""
        pid = self._process.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            found = int(children[0])
            return found if Path(f"/proc/{found}/comm").read_text() == "systemd\n" else None
        except (OSError, IndexError):
            return None
