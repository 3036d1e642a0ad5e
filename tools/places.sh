# shellcheck shell=sh
# Sourced by install.sh and uninstall.sh: where things are.

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
    config=$DESTDIR/etc/mda/config.yaml
    unit=$DESTDIR/etc/systemd/system/mda.service
    link=$DESTDIR/usr/local/bin/mda
    # The manual page and the completions, in $program/share and, as links, where they are looked for.
    shared="man/man1/mda.1 bash-completion/completions/mda zsh/site-functions/_mda"
    local_share=$DESTDIR/usr/local/share
}
