#!/bin/sh
# Put the program back that the last upgrade replaced, `sudo make rollback`; the one in use until now is kept in its
# place, so that a second rollback goes forward again. The configuration and what was learned stay as they are.
set -eu
umask 022
cd "$(dirname "$0")/.."
. tools/places.sh

if [ -z "$DESTDIR" ] && [ "$(id -u)" != 0 ]; then
    fail "this changes $PREFIX and /etc: run it as root, sudo make rollback"
fi
trap settle EXIT
trap 'exit 1' HUP INT TERM
settle
for each in "$program" "$previous"; do
    if [ -e "$each" ] && ! is_ours "$each"; then
        fail "$each is no installation of MDA; where it was installed elsewhere, say so with PREFIX"
    fi
done
if [ ! -e "$previous" ]; then
    fail "there is no previous program in $previous to go back to: an upgrade keeps the one that it replaces"
fi
check_configuration "$previous"

# Should one of these fail, or be the last, settle leads to one of the two states.
mv "$program" "$old"
mv "$previous" "$program"
settle
say "MDA $(version_of "$program") is in $program again" \
    "Kept MDA $(version_of "$previous") in $previous: another make rollback goes forward to it"

if [ -e "$program/share/mda/mda.service" ]; then
    install -m 0644 "$program/share/mda/mda.service" "$unit"
    say "Wrote $unit"
fi
if ! runs_systemd; then
    exit 0
fi
systemctl daemon-reload
# One that keeps failing is not inactive.
if [ "$(systemctl is-active mda)" = inactive ]; then
    say "The service is stopped and stays so: systemctl start mda"
    exit 0
fi
say "Restarting the service"
systemctl restart mda ||
    fail "it does not start: see journalctl -u mda. Where that names another format of a state file, docs/install.md" \
        "says what to do. To go forward again: make rollback PREFIX=$PREFIX"
