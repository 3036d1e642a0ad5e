#!/bin/sh
# Create .venv with the locked dependencies and this project, once: `tools/setup.sh` or `tools/setup.sh dev`.
#
# The stamp inside .venv holds a digest of everything the result depends on, so a second run only compares it.
set -eu
cd "$(dirname "$0")/.."
. tools/debian.sh

lock=requirements.lock
stamp=.venv/setup.stamp
if [ "${1:-}" = dev ]; then
    lock=requirements-dev.lock
    stamp=.venv/setup-dev.stamp
fi
python=.venv/bin/python

# The folder counts too: an editable install and the scripts in .venv/bin hold its path.
digest=$({ pwd; cat "$lock" pyproject.toml tools/setup.sh; } | sha256sum)
if [ -r "$stamp" ] && [ "$(cat "$stamp")" = "$digest" ] && "$python" -c '' 2>/dev/null; then
    exit 0
fi

fits='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'
complete="import sqlite3, ssl, venv, ensurepip; $fits"

# find_python PROGRAM: the first interpreter that runs PROGRAM without an error.
find_python() {
    for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3; do
        if "$candidate" -c "$1" >/dev/null 2>&1; then
            printf '%s\n' "$candidate"
            return 0
        fi
    done
    return 1
}

fail() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}

choose_python() {
    if find_python "$complete"; then
        return 0
    fi
    # Debian ships venv and ensurepip in a package of their own; a minimal system may lack Python altogether.
    packages='python3 python3-venv'
    if bare=$(find_python "$fits"); then
        name=$("$bare" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
        packages="$name-venv"
    fi
    # shellcheck disable=SC2086  # one word a package
    if debian_install $packages && find_python "$complete"; then
        return 0
    fi
    if [ -n "${bare:-}" ]; then
        fail "$bare has no venv, ensurepip, sqlite3 or ssl module" \
            "on Debian or Raspberry Pi OS, run: sudo apt-get install $packages"
    fi
    fail "Python 3.11, 3.12 or 3.13 is needed and none was found (tried python3.11, python3.12, python3.13, python3)" \
        "on Debian 12 or Raspberry Pi OS: sudo apt-get install python3 python3-venv; elsewhere: make setup PYTHON=/path/to/python3.12"
}

rm -f "$stamp"
if ! { "$python" -c "$fits" && "$python" -m pip --version; } >/dev/null 2>&1; then
    chosen=$(choose_python)
    printf 'Creating .venv with %s\n' "$("$chosen" --version)"
    "$chosen" -m venv --clear .venv
fi

printf 'Installing %s\n' "$lock"
pip() {
    "$python" -m pip --disable-pip-version-check --quiet --no-input "$@" </dev/null
}
# Wheels only: nothing is compiled and no code of a package runs while it is installed.
pip install --only-binary=:all: --require-hashes -r "$lock" || {
    fail "the dependencies could not be installed (see above)" \
        "they come as wheels for 64-bit Linux with glibc 2.28 or newer, on x86-64 and aarch64; this is $(uname -m)"
}
# setuptools comes from the lock, so nothing unlocked is fetched to build the project itself.
pip install --no-deps --no-build-isolation --editable .
printf '%s\n' "$digest" >"$stamp"
