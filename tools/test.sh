#!/bin/sh
# Run the tests, against a real Mosquitto too: installed from Debian where it is missing and that is allowed.
# Arguments go to pytest; after `mutants`, to tests/mutants, which tries the tests on faults. `-n 0` runs all of them in
# one process.
set -eu
cd "$(dirname "$0")/.."
. tools/debian.sh

# Debian keeps the broker in /usr/sbin, which is not on an ordinary user's PATH.
PATH="$PATH:/usr/sbin:/sbin"
export PATH

have_mosquitto() {
    command -v mosquitto >/dev/null 2>&1
}

if ! have_mosquitto && debian_install mosquitto; then
    # The tests start brokers of their own: what was installed for them must not open port 1883 after a reboot.
    debian_as_root systemctl disable mosquitto.service >/dev/null 2>&1 || true
fi

# With strace the tests kill a memory at its writes; without it they say that they were skipped.
command -v strace >/dev/null 2>&1 || debian_install strace || true

# With libfaketime they set the clock of a running daemon.
command -v faketime >/dev/null 2>&1 || debian_install faketime || true

# With FUSE they cut the power of a memory's disk, and have it fill up and fail.
if [ -e /dev/fuse ]; then
    command -v fusermount3 >/dev/null 2>&1 || debian_install fuse3 || true
fi

# With systemd they check the unit, and, as root, run the daemon under a systemd of its own.
command -v systemd-analyze >/dev/null 2>&1 || debian_install systemd || true

# A process that a test starts does not compile all of the program again.
unset PYTHONDONTWRITEBYTECODE

if [ "${1:-}" = mutants ]; then
    shift
    exec .venv/bin/python -m tests.mutants "$@" </dev/null
fi

# Most of them wait for other processes more than they compute: two workers for each processor, where each has a
# gigabyte. A file goes to one of them whole, for tests of one file share what they start.
workers=$(awk -v most="$(($(nproc) * 2))" '
    /^MemAvailable:/ { fit = int($2 / 1048576) }
    END { if (most > 8) most = 8; if (fit < most) most = fit; print most < 1 ? 1 : most }' /proc/meminfo)

status=0
.venv/bin/python -m pytest -n "$workers" --dist loadfile --no-loadscope-reorder "$@" </dev/null || status=$?

if ! have_mosquitto; then
    if [ "${CI:-}" = true ] && [ "$status" = 0 ]; then
        status=1
    fi
    echo "The tests against Mosquitto did NOT run: it is not installed (as root: apt-get install mosquitto)."
fi
exit "$status"
