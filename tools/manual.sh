#!/bin/sh
# Write the manual page and the completions of `mda` anew, from its own parser and manual.h2m: `make manual`. They lie
# in tools/share as man and the shells look for them below a prefix, and are part of the program: installing it takes
# none of what made them. tests/project/test_manual.py holds them up to date.
set -eu
cd "$(dirname "$0")/.."
. tools/python.sh

share=tools/share
parser=mda_daemon.cli.main
# It comes as source alone, and the locks are for wheels: so it is fetched here, and for this alone.
writer='argparse-manpage==4.8 --hash=sha256:d55ce1c246479ddd82871170a8cc543a6831bb68c87a298e47f0663a9330b74f'

fail() {
    printf 'manual: %s\n' "$@" >&2
    exit 1
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf '%s\n' "$writer" >"$work/requirements"
pip_in .venv install --no-deps --no-build-isolation --require-hashes --target "$work" -r "$work/requirements" ||
    fail "argparse-manpage could not be fetched (see above); nothing was changed"

# Wide: the page's reader breaks the lines. mandoc knows dates by their plain hyphens.
version=$(.venv/bin/python -c 'import importlib.metadata; print(importlib.metadata.version("mda-daemon"))')
PYTHONPATH=$work COLUMNS=1000 NO_COLOR=1 .venv/bin/python -c 'from argparse_manpage.cli import main; main()' \
    --module $parser --function parser --prog mda --project-name mda --version "$version" --manual-title MDA \
    --description 'an associative memory that listens and answers over MQTT' \
    --format single-commands-section --include tools/manual.h2m --output "$work/mda.1"
sed '1s/\\-/-/g' "$work/mda.1" >$share/man/man1/mda.1

# completion SHELL FILE
completion() {
    .venv/bin/python -m shtab --error-unimportable --prefix mda --shell "$1" --output "$share/$2" $parser.parser
}
completion bash bash-completion/completions/mda
completion zsh zsh/site-functions/_mda
completion fish fish/vendor_completions.d/mda.fish
