# shellcheck shell=sh
# Sourced by setup.sh and install.sh: which Python it may be, and how what is locked gets into its environment.
# `fail` is theirs.

# shellcheck disable=SC2034  # for those who source this
{
    fits='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))'
    complete="import sqlite3, ssl, venv, ensurepip; $fits"
    pythons='python3.11 python3.12 python3.13 python3.14 python3'
}

# find_python CODE CANDIDATE...: the first interpreter that runs CODE without an error.
find_python() {
    code=$1
    shift
    for candidate; do
        if "$candidate" -c "$code" >/dev/null 2>&1; then
            printf '%s\n' "$candidate"
            return 0
        fi
    done
    return 1
}

# pip_in FOLDER ARGUMENT...: pip of the environment in FOLDER; it asks nothing.
pip_in() {
    folder=$1
    shift
    "$folder/bin/python" -m pip --disable-pip-version-check --quiet --no-input "$@" </dev/null
}

# install_locked FOLDER LOCK [CONSEQUENCE]: what LOCK names, into that environment; where that fails, it says so.
install_locked() {
    # Wheels only: nothing is compiled and no code of a package runs while it is installed.
    pip_in "$1" install --only-binary=:all: --require-hashes -r "$2" || {
        fail "the dependencies could not be installed (see above)${3:-}" \
            "they come as wheels for 64-bit Linux with glibc 2.28 or newer, on x86-64 and aarch64; this is $(uname -m)"
    }
}
