#!/bin/sh
# Create .venv with the locked dependencies and this project, once: `tools/setup.sh`, `tools/setup.sh dev` for what the
# tests take too, `tools/setup.sh docs` for what the documentation takes.
#
# The stamp inside .venv holds a digest of everything the result depends on, so a second run only compares it.
set -eu
cd "$(dirname "$0")/.."
. tools/debian.sh
. tools/python.sh

lock=requirements.lock
stamp=.venv/setup.stamp
if [ -n "${1:-}" ]; then
    lock=requirements-$1.lock
    stamp=.venv/setup-$1.stamp
fi
python=.venv/bin/python

# The folder counts too: an editable install and the scripts in .venv/bin hold its path.
digest=$({ pwd; cat "$lock" pyproject.toml tools/setup.sh tools/python.sh; } | sha256sum)
if [ -r "$stamp" ] && [ "$(cat "$stamp")" = "$digest" ] && "$python" -c '' 2>/dev/null; then
    exit 0
fi

fail() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}

# first CODE: the first interpreter on the PATH that runs it, or the one that was asked for.
first() {
    # shellcheck disable=SC2086  # one word a name
    find_python "$1" ${PYTHON:-} $pythons
}

choose_python() {
    if first "$complete"; then
        return 0
    fi
    # Debian ships venv and ensurepip in a package of their own; a minimal system may lack Python altogether.
    packages='python3 python3-venv'
    if bare=$(first "$fits"); then
        name=$("$bare" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
        packages="$name-venv"
    fi
    # shellcheck disable=SC2086  # one word a package
    if debian_install $packages && first "$complete"; then
        return 0
    fi
    if [ -n "${bare:-}" ]; then
        fail "$bare has no venv, ensurepip, sqlite3 or ssl module" \
            "on Debian or Raspberry Pi OS, run: sudo apt-get install $packages"
    fi
    fail "Python 3.11 to 3.14 is needed and none was found (tried python3.11 to python3.14, python3)" \
        "on Debian 12 or Raspberry Pi OS: sudo apt-get install python3 python3-venv; elsewhere: make setup PYTHON=/path/to/python3.12"
}

rm -f "$stamp"
if ! { "$python" -c "$fits" && "$python" -m pip --version; } >/dev/null 2>&1; then
    chosen=$(choose_python)
    printf 'Creating .venv with %s\n' "$("$chosen" --version)"
    "$chosen" -m venv --clear .venv
fi

printf 'Installing %s\n' "$lock"
install_locked .venv "$lock"
# setuptools comes from the lock, so nothing unlocked is fetched to build the project itself.
pip_in .venv install --no-deps --no-build-isolation --editable .
printf '%s\n' "$digest" >"$stamp"
