#!/bin/sh
# Write requirements.lock (daemon, embedded broker, setuptools to install the project itself), requirements-dev.lock
# (the same versions, plus tests and model building) and requirements-docs.lock (the same versions, plus the site of
# the documentation): versions and hashes for every Python and every Linux architecture at once, no addresses.
# `tools/lock.sh --upgrade` takes the newest versions allowed.
set -eu
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip --disable-pip-version-check --quiet install 'uv>=0.9,<1'

compile() {
    output=$1
    shift
    # The lower bound is pyproject.toml's build-system table; fewest: one version of each package for all Pythons.
    echo 'setuptools>=77' | "$work/venv/bin/uv" pip compile pyproject.toml - --quiet \
        --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
        --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' \
        --output-file "$output" "$@"
    if grep -nE '://|^-' "$output"; then
        echo "lock: $output holds an address or an option (see above)" >&2
        exit 1
    fi
}

compile requirements.lock --extra broker "$@"
compile requirements-dev.lock --constraint requirements.lock --extra broker --extra dev --extra models "$@"
compile requirements-docs.lock --constraint requirements-dev.lock --extra broker --extra docs "$@"
