#!/bin/sh
# Remove what install.sh installed, `sudo make uninstall`; never the configuration, never what was learned.
set -eu
cd "$(dirname "$0")/.."
. tools/places.sh

if [ -z "$DESTDIR" ] && [ "$(id -u)" != 0 ]; then
    fail "run it as root: sudo make uninstall"
fi
for each in "$program" "$previous"; do
    if [ -e "$each" ] && ! is_ours "$each"; then
        fail "$each is no installation of MDA and stays; where it was installed elsewhere, say so with PREFIX"
    fi
done

if [ -e "$unit" ] && runs_systemd; then
    systemctl disable --now mda
fi
rm -f "$unit"
if runs_systemd; then
    systemctl daemon-reload
fi
if [ "$(readlink "$link")" = "$PREFIX/bin/mda" ]; then
    rm -f "$link"
fi
for each in $shared; do
    if [ "$(readlink "$local_share/$each")" = "$PREFIX/share/$each" ]; then
        rm -f "$local_share/$each"
    fi
done
rm -rf "$program" "$previous" "$old" "$program.new"

say "Removed $program and $unit" \
    "Kept $DESTDIR/etc/mda, the configuration, and $DESTDIR/var/lib/mda, everything it has learned." \
    "To remove them too, for good:" \
    "  rm -r $DESTDIR/etc/mda $DESTDIR/var/lib/mda $DESTDIR/var/lib/private/mda" \
    "What was copied to /etc/mosquitto is still there as well."
