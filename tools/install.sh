#!/bin/sh
# Install or upgrade MDA as a service: `sudo make install`.
#
# PREFIX (/opt/mda) gets the program in a Python environment of its own, /etc/mda/config.yaml the defaults where no
# such file is yet, /etc/systemd/system the unit. DESTDIR goes before every path, for packages and tests: then
# nothing outside of it is touched. The new program is built and tried beside the old one, and then takes its place:
# whatever fails before that leaves the old one as it is. That one stays as PREFIX.previous, for `make rollback`.
set -eu
umask 022
cd "$(dirname "$0")/.."
. tools/debian.sh
. tools/places.sh
. tools/python.sh

new=$program.new

if [ -z "$DESTDIR" ] && [ "$(id -u)" != 0 ]; then
    fail "this writes to $PREFIX, /etc and /usr/local/bin: run it as root, sudo make install"
fi
for each in "$program" "$previous"; do
    if [ -e "$each" ] && ! is_ours "$each"; then
        fail "$each is there and is no installation of MDA: move it away, or choose another folder with PREFIX"
    fi
done

# choose_python: an interpreter that fits and that the service may run. Its user is none that exists, and it does not
# see home folders (ProtectHome): a Python of pyenv, uv or conda in one of them would not start.
choose_python() {
    if [ -n "${PYTHON:-}" ]; then
        set -- "$PYTHON"
    else
        for folder in /usr/bin /usr/local/bin; do
            for name in $pythons; do
                set -- "$@" "$folder/$name"
            done
        done
    fi
    find_python "import os, sys
if os.path.realpath(sys.executable).startswith(('/home/', '/root/', '/run/user/')): sys.exit(1)
$complete" "$@"
}

# same FOLDER FOLDER: whether both hold one and the same program.
same() {
    (cd "$1" && for each in share/mda lib/python3*/site-packages/mda_core lib/python3*/site-packages/mda_daemon; do
        diff -rq -x __pycache__ "$each" "$2/$each" >/dev/null 2>&1 || exit 1
    done)
}

build=$(mktemp -d)
clean_up() {
    settle
    rm -rf "$build" "$new"
}
trap clean_up EXIT
trap 'exit 1' HUP INT TERM
settle
rm -rf "$new"

# The environment: taken over where it holds the same versions already, which needs no network and little time. Its
# files are links to those of the old one: from here on they are replaced, never written to.
if [ -e "$program" ] && cmp -s requirements.lock "$program/share/mda/requirements.lock" &&
    "$program/bin/python" -c '' 2>/dev/null; then
    say "The dependencies in $program are those of requirements.lock and stay."
    cp -al "$program" "$new"
    rm -r "$new/share/mda"
else
    if ! python=$(choose_python); then
        if [ -n "${PYTHON:-}" ] || ! { debian_install python3 python3-venv && python=$(choose_python); }; then
            fail "Python 3.11 to 3.14 with venv is needed, outside of home folders, and ${PYTHON:-none} is not it" \
                "on Debian or Raspberry Pi OS: apt-get install python3 python3-venv; or name another with PYTHON"
        fi
    fi
    say "Building the program with $("$python" --version), $python"
    mkdir -p "$(dirname "$program")"
    "$python" -m venv "$new"
    install_locked "$new" requirements.lock "; nothing was changed"
fi

# In a copy: a build leaves folders behind, which root would own. The commit is noted in the copy alone.
mkdir "$build/tools"
cp -rL daemon mda_core pyproject.toml README.md LICENSE "$build"
cp -r tools/share "$build/tools"
PYTHONPATH=daemon "$new/bin/python" -B -c 'from mda_daemon.cli.version import commit
print(commit() or "")' >"$build/daemon/mda_daemon/_commit.txt"
pip_in "$new" install --no-deps --no-build-isolation --force-reinstall "$build" ||
    fail "the program could not be installed (see above); nothing was changed"

# It finds its own environment, so that this folder can be moved, which pip's own script cannot be.
cat >"$build/mda" <<'LAUNCHER'
#!/bin/sh
exec "$(dirname "$(readlink -f "$0")")/python" -P -m mda_daemon "$@"
LAUNCHER
install -m 0755 "$build/mda" "$new/bin/mda"
mkdir -p "$new/share/mda"
# Relative to /etc/mda the state of a checkout would be a folder that the service may not write to.
sed 's|^state: .*|state: /var/lib/mda|' config.yaml >"$new/share/mda/config.yaml"
install -m 0644 requirements.lock systemd/mosquitto-mda.conf systemd/mosquitto-mda-2.1.conf \
    systemd/mosquitto-mda.acl "$new/share/mda"
sed "s|/opt/mda|$PREFIX|" systemd/mda.service >"$new/share/mda/mda.service"

# Try it on this processor: the encoder is loaded and encodes.
"$new/bin/python" -P -c 'from mda_core.encoding.encoder import DEFAULT_MODEL, Encoder
Encoder(DEFAULT_MODEL).encode(["the back door was left open"])' ||
    fail "the encoder does not run on this computer (see above); nothing was changed"
version=$("$new/bin/mda" --version)
printf '%s\n' "${version#mda }" >"$new/share/mda/version"
check_configuration "$new"

# Should the second of these two fail, or be the last, clean_up takes the first one back.
if [ -e "$program" ]; then
    mv "$program" "$old"
fi
mv "$new" "$program"
say "Installed MDA $(version_of "$program") in $program"

mkdir -p "$(dirname "$config")" "$(dirname "$unit")" "$(dirname "$link")"
if [ ! -e "$config" ]; then
    install -m 0644 "$program/share/mda/config.yaml" "$config"
    say "Wrote $config: look through it before the first start"
elif [ -e "$old/share/mda/config.yaml" ] && ! cmp -s "$old/share/mda/config.yaml" "$program/share/mda/config.yaml"; then
    install -m 0644 "$program/share/mda/config.yaml" "$config.new"
    say "Kept $config; the defaults have changed, see $config.new"
else
    say "Kept $config"
fi
install -m 0644 "$program/share/mda/mda.service" "$unit"
say "Wrote $unit"
if [ ! -e "$link" ] || [ -L "$link" ]; then
    ln -sfn "$PREFIX/bin/mda" "$link"
fi

for each in $shared; do
    mkdir -p "$local_share/${each%/*}"
    if [ ! -e "$local_share/$each" ] || [ -L "$local_share/$each" ]; then
        ln -sfn "$PREFIX/share/$each" "$local_share/$each"
    fi
done

# Installed again, it is no other program: the one before it stays.
if [ -e "$old" ] && same "$old" "$program"; then
    rm -rf "$old"
elif [ -e "$old" ]; then
    say "Kept MDA $(version_of "$old") in $previous: make rollback takes it back"
fi
settle

if ! runs_systemd; then
    say "systemd does not run here, so the service was not set up. Without it, run as a user who owns /var/lib/mda:" \
        "  $PREFIX/bin/mda run --config /etc/mda/config.yaml"
elif systemctl daemon-reload && systemctl is-active --quiet mda; then
    say "Restarting the service"
    if ! systemctl restart mda; then
        fail "the new version does not start: see journalctl -u mda. The way back to the old one:" \
            "  make rollback PREFIX=$PREFIX"
    fi
else
    say "Start it, now and at every boot: systemctl enable --now mda"
fi

if [ ! -e "$DESTDIR/etc/mosquitto/conf.d/mda.conf" ]; then
    say "For a Mosquitto on this computer there is a configuration (persistence, limits of its queues, who may do" \
        "what). Its first lines say how to set passwords, and docs/install.md where to put the daemon's." \
        "Where Mosquitto serves other programs too, take from it what fits; for Mosquitto 2.1 and newer there is" \
        "mosquitto-mda-2.1.conf:" \
        "  cp $PREFIX/share/mda/mosquitto-mda.conf /etc/mosquitto/conf.d/mda.conf" \
        "  cp $PREFIX/share/mda/mosquitto-mda.acl /etc/mosquitto/mda.acl"
fi
say "Check everything: mda check --config /etc/mda/config.yaml"
