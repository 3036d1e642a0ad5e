# shellcheck shell=sh
# Sourced by install.sh, rollback.sh and uninstall.sh: where things are, and what is there.

say() {
    printf '%s\n' "$@"
}

fail() {
    printf 'mda: %s\n' "$@" >&2
    exit 1
}

# is_ours FOLDER: whether this is a program folder that install.sh made, which may be replaced and removed.
is_ours() {
    [ -f "$1/pyvenv.cfg" ] && [ -f "$1/bin/mda" ] && [ -d "$1/share/mda" ]
}

runs_systemd() {
    [ -z "$DESTDIR" ] && [ -d /run/systemd/system ]
}

# version_of FOLDER: of the program there, as `mda --version` has it.
version_of() {
    cat "$1/share/mda/version" 2>/dev/null || echo 'of an unknown version'
}

# accepts FOLDER: whether the program there can read the configuration. What it says is in $answer.
accepts() {
    answer=$("$1/bin/python" -P -c 'import pathlib, sys
from mda_daemon.settings import load
from mda_daemon.errors import ConfigError
try:
    load(pathlib.Path(sys.argv[1]))
except ConfigError as exc:
    sys.exit(str(exc))' "$config" 2>&1)
}

# check_configuration FOLDER: end where the program in use reads the configuration and the one in FOLDER does not. Root
# may see less than the service does, such as its credentials: so only what was fine so far counts.
check_configuration() {
    if [ ! -e "$config" ] || accepts "$1"; then
        return 0
    fi
    refusal=$answer
    if [ -e "$program" ] && accepts "$program"; then
        fail "$refusal" "MDA $(version_of "$1") does not take this configuration; nothing was changed." \
            "Correct it, then try again"
    fi
    say "Take a look at the configuration: $refusal"
}

# settle: what was in use until a moment ago, in $old, becomes the previous program; or it is in use again where the
# change was cut short. So it is also the end of a change that a power cut left half done.
settle() {
    if [ -e "$old" ] && [ ! -e "$program" ]; then
        mv "$old" "$program"
    elif [ -e "$old" ]; then
        rm -rf "$previous"
        mv "$old" "$previous"
    fi
}

PREFIX=${PREFIX:-/opt/mda}
DESTDIR=${DESTDIR:-}
# It goes into the unit and into commands that are printed.
case $PREFIX in
/*) ;;
*) fail "PREFIX: expected an absolute path, got $PREFIX" ;;
esac
case $PREFIX in
*[!A-Za-z0-9/._-]* | */) fail "PREFIX: expected a path of letters, digits, . _ - and /, without one at its end, got $PREFIX" ;;
esac
case $DESTDIR in
'' | /*) ;;
*) fail "DESTDIR: expected an absolute path, got $DESTDIR" ;;
esac

# shellcheck disable=SC2034  # for those who source this
{
    program=$DESTDIR$PREFIX
    # The one that the last upgrade replaced, for `make rollback`.
    previous=$program.previous
    old=$program.old
    config=$DESTDIR/etc/mda/config.yaml
    unit=$DESTDIR/etc/systemd/system/mda.service
    link=$DESTDIR/usr/local/bin/mda
    # The manual page and the completions, in $program/share and, as links, where they are looked for.
    shared="man/man1/mda.1 bash-completion/completions/mda zsh/site-functions/_mda fish/vendor_completions.d/mda.fish"
    local_share=$DESTDIR/usr/local/share
}
