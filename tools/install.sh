#!/bin/sh
# Install or upgrade MDA as a service: `sudo make install`.
#
# PREFIX (/opt/mda) gets the program in a Python environment of its own, /etc/mda/config.yaml the defaults where no
# such file is yet, /etc/systemd/system the unit. DESTDIR goes before every path, for packages and tests: then
# nothing outside of it is touched. The new program is built and tried beside the old one, and then takes its place:
# whatever fails before that leaves the old one as it is.
set -eu
umask 022
cd "$(dirname "$0")/.."
. tools/debian.sh
. tools/places.sh
. tools/python.sh

new=$program.new
old=$program.old

if [ -z "$DESTDIR" ] && [ "$(id -u)" != 0 ]; then
    fail "this writes to $PREFIX, /etc and /usr/local/bin: run it as root, sudo make install"
fi
if [ -e "$program" ] && ! is_ours "$program"; then
    fail "$program is there and is no installation of MDA: move it away, or choose another folder with PREFIX"
fi

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

# accepts FOLDER: whether the program there can read the configuration. What it says is in $answer.
accepts() {
    answer=$("$1/bin/python" -P -c 'import pathlib, sys
from mda_daemon.config.load import load
from mda_daemon.errors import ConfigError
try:
    load(pathlib.Path(sys.argv[1]))
except ConfigError as exc:
    sys.exit(str(exc))' "$config" 2>&1)
}

build=$(mktemp -d)
clean_up() {
    if [ ! -e "$program" ] && [ -e "$old" ]; then
        mv "$old" "$program"
    fi
    rm -rf "$build" "$new"
}
trap clean_up EXIT
trap 'exit 1' HUP INT TERM
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

# In a copy: a build leaves folders behind, which root would own.
cp -rL daemon mda_core pyproject.toml README.md LICENSE "$build"
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
install -m 0644 requirements.lock systemd/mosquitto-mda.conf systemd/mosquitto-mda.acl "$new/share/mda"
sed "s|/opt/mda|$PREFIX|" systemd/mda.service >"$build/mda.service"
for each in $shared; do
    rm -f "$new/share/$each"
    mkdir -p "$new/share/${each%/*}"
    "$new/bin/python" -P tools/manual.py "${each%%[-/]*}" >"$new/share/$each"
done

# Try it on this processor: the encoder is loaded and encodes.
"$new/bin/python" -P -c 'from mda_core.encoder import DEFAULT_MODEL, Encoder
Encoder(DEFAULT_MODEL).encode(["the back door was left open"])' ||
    fail "the encoder does not run on this computer (see above); nothing was changed"
version=$("$new/bin/python" -P -c 'from mda_daemon.pipeline.report import program_version; print(program_version())')
if [ -e "$config" ] && ! accepts "$new"; then
    refusal=$answer
    # Root may see less than the service does, such as its credentials: so only what was fine so far counts.
    if [ -e "$program" ] && accepts "$program"; then
        fail "$refusal" "MDA $version does not take this configuration; nothing was changed. Correct it, then try again"
    fi
    say "Take a look at the configuration: $refusal"
fi

# Should the second of these two fail, or be the last, clean_up takes the first one back.
if [ -e "$program" ]; then
    rm -rf "$old"
    mv "$program" "$old"
fi
mv "$new" "$program"
say "Installed MDA $version in $program"

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
install -m 0644 "$build/mda.service" "$unit"
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

if ! runs_systemd; then
    say "systemd does not run here, so the service was not set up. Without it, run as a user who owns /var/lib/mda:" \
        "  $PREFIX/bin/mda run --config /etc/mda/config.yaml"
elif systemctl daemon-reload && systemctl is-active --quiet mda; then
    say "Restarting the service"
    if ! systemctl restart mda; then
        fail "the new version does not start: see journalctl -u mda. The way back to the old one:" \
            "  rm -r $program && mv $old $program && systemctl restart mda"
    fi
else
    say "Start it, now and at every boot: systemctl enable --now mda"
fi
rm -rf "$old"

if [ ! -e "$DESTDIR/etc/mosquitto/conf.d/mda.conf" ]; then
    say "For a Mosquitto on this computer there is a configuration (persistence, limits of its queues, who may do" \
        "what). Its first lines say how to set passwords, and docs/install.md where to put the daemon's." \
        "Where Mosquitto serves other programs too, take from it what fits:" \
        "  cp $PREFIX/share/mda/mosquitto-mda.conf /etc/mosquitto/conf.d/mda.conf" \
        "  cp $PREFIX/share/mda/mosquitto-mda.acl /etc/mosquitto/mda.acl"
fi
say "Check everything: mda check --config /etc/mda/config.yaml"
