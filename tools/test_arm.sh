#!/bin/sh
# The core of the test suite on an emulated 64-bit ARM processor: Debian's Python for arm64, the aarch64 wheels of
# the lock files and QEMU's user-mode emulation, all kept in .arm/. It takes no root, chroot or binfmt.
#
#   tools/test_arm.sh                 a Cortex-A72 (Raspberry Pi 4) in full, then a Cortex-A53 (Pi 3, Zero 2 W) in short
#   tools/test_arm.sh --python ARG…   the emulated Python itself, the processor by CPU=cortex-a53
#
# Emulation shows that a thing works and its numerics, never its speed. What was fetched stays: a run that was cut
# short goes on where it ended, and `rm -rf .arm` starts anew.
set -eu
cd "$(dirname "$0")/.."

arm=$PWD/.arm
here_python=.venv/bin/python
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
# Debian 12 as on the boards: Python 3.11. The emulator is Debian 13's, version 10: with the 7.2 of Debian 12
# onnxruntime 1.28 and newer ends in a segmentation fault. Its program is static and runs on any Debian.
guest=bookworm
emulator=trixie
python_version=3.11

say() {
    printf 'test-arm: %s\n' "$@" >&2
}

fail() {
    say "$@"
    exit 1
}

# private_apt SUITE ARCH COMMAND…: apt-get with lists, cache and a dpkg of its own, which knows no package. The
# mirror is the one that this computer uses.
private_apt() {
    suite=$1 arch=$2
    shift 2
    own=$arm/apt/$suite
    mkdir -p "$own/state/lists/partial" "$own/cache/archives/partial"
    : >"$own/state/status"
    printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$mirror" "$suite" >"$own/sources.list"
    cat >"$own/apt.conf" <<EOF
APT::Architecture "$arch";
APT::Architectures { "$arch"; };
APT::Sandbox::User "$(id -un)";
Dir::State "$own/state";
Dir::State::status "$own/state/status";
Dir::Cache "$own/cache";
Dir::Etc::sourcelist "$own/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
EOF
    APT_CONFIG="$own/apt.conf" apt-get -q "$@" </dev/null >&2 ||
        fail "apt-get could not fetch from $suite (see above)" \
            "the packages come from this computer's own Debian mirror; run \`make test-arm\` again to go on"
}

need_debian() {
    for tool in apt-get dpkg-deb tar; do
        command -v "$tool" >/dev/null 2>&1 ||
            fail "$tool is missing: the emulated system is put together from Debian's packages, on Debian only"
    done
    [ -r "$keyring" ] || fail "$keyring is missing: apt-get install debian-archive-keyring"
    # shellcheck disable=SC2016  # apt's own variable
    mirror=$(apt-get indextargets --format '$(SITE)' | grep -E '/debian/?$' | sort -u | head -n 1)
    [ -n "$mirror" ] || fail "apt knows no Debian mirror (an address that ends in /debian)"
}

# The emulator: one static program of one package.
get_emulator() {
    [ -x "$arm/qemu-aarch64" ] && return 0
    need_debian
    say "fetching QEMU ($emulator, 70 MB)"
    host=$(dpkg --print-architecture)
    private_apt "$emulator" "$host" update
    private_apt "$emulator" "$host" install -y --download-only --no-install-recommends qemu-user
    package=$(find "$arm/apt/$emulator/cache/archives" -name 'qemu-user_*.deb')
    dpkg-deb --fsys-tarfile "$package" | tar -x -O ./usr/bin/qemu-aarch64 >"$arm/qemu-aarch64.part"
    chmod 755 "$arm/qemu-aarch64.part"
    mv "$arm/qemu-aarch64.part" "$arm/qemu-aarch64"
    rm -rf "$arm/apt/$emulator"
}

# Python for arm64 and every package it needs, unpacked and not installed: none of their programs runs.
get_root() {
    [ -d "$arm/root" ] && return 0
    need_debian
    say "fetching Python for arm64 ($guest, 16 MB)"
    private_apt "$guest" arm64 update
    private_apt "$guest" arm64 install -y --download-only --no-install-recommends \
        "python$python_version" libstdc++6
    rm -rf "$arm/root.part"
    mkdir "$arm/root.part"
    for package in "$arm/apt/$guest/cache/archives"/*.deb; do
        dpkg-deb -x "$package" "$arm/root.part"
    done
    mv "$arm/root.part" "$arm/root"
    rm -rf "$arm/apt/$guest"
}

# of_lock FILE PATTERN: the entries, with their hashes, of the packages whose names match.
of_lock() {
    awk -v wanted="^($2)==" '/^[a-z]/ { keep = $0 ~ wanted } keep' "$1"
}

# The aarch64 wheels of the lock files: all it takes to run, and pytest.
get_wheels() {
    wanted=$(
        of_lock requirements.lock '[a-z0-9._-]+'
        # What both files name has the same version and hashes in both.
        of_lock requirements-dev.lock 'pytest|iniconfig|pluggy|pygments'
    )
    [ "$wanted" = "$(cat "$arm/site/wanted" 2>/dev/null)" ] && return 0
    say "fetching the aarch64 wheels of the lock files (50 MB)"
    printf '%s\n' "$wanted" >"$arm/wanted"
    # One platform tag alone silently picks old versions.
    "$here_python" -m pip --disable-pip-version-check --no-input --quiet download --dest "$arm/wheels" \
        --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 \
        --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 \
        --python-version "$python_version" --only-binary=:all: --require-hashes --no-deps \
        -r "$arm/wanted" </dev/null ||
        fail "pip found no aarch64 wheel for something in the lock files (see above)"
    rm -rf "$arm/site" "$arm/site.part"
    for wheel in "$arm"/wheels/*.whl; do
        "$here_python" -m zipfile -e "$wheel" "$arm/site.part"
    done
    mv "$arm/wanted" "$arm/site.part/wanted"
    mv "$arm/site.part" "$arm/site"
    rm -rf "$arm/wheels"
}

# A program that an emulated Python can start as its own interpreter (sys.executable).
write_python() {
    cat >"$arm/python" <<EOF
#!/bin/sh
# -S: nothing of this computer's own Python is found.
PYTHONHOME=/usr PYTHONPATH='$arm/site:$PWD/daemon:$PWD' PYTHONDONTWRITEBYTECODE=1 exec '$arm/qemu-aarch64' \\
    -cpu "\${CPU:-cortex-a72}" -L '$arm/root' -0 '$arm/python' '$arm/root/usr/bin/python$python_version' -S "\$@"
EOF
    chmod 755 "$arm/python"
}

# run CPU TEST…: some of the tests on this processor.
status=0
run() {
    cpu=$1
    shift
    say "$cpu"
    CPU=$cpu OPENBLAS_NUM_THREADS=1 "$arm/python" -m pytest -p no:cacheprovider "$@" </dev/null || status=1
}

mkdir -p "$arm"
get_emulator
get_root
get_wheels
write_python
if [ "${1:-}" = --python ]; then
    shift
    exec "$arm/python" "$@"
fi
core=tests/mda_core
encoder=$core/encoding/test_encoder.py
run cortex-a72 tests/arm "$encoder::test_vectors_agree_with_fp32" "$encoder::test_meaning_is_kept" \
    "$encoder::test_the_folder_names_and_fingerprints_itself" $core/test_numerics.py $core/learning/test_oja.py \
    $core/index/test_semantic.py $core/recall/test_ranking.py $core/index/test_postings.py $core/test_memory.py \
    $core/test_determinism.py "$@"
run cortex-a53 tests/arm "$encoder::test_vectors_agree_with_fp32" "$@"
exit "$status"
