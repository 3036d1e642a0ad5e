# shellcheck shell=sh
# Sourced by the other scripts: install Debian packages where that is allowed without asking anybody.

# Who may install: root, or a user whose sudo needs no password. Prints the prefix for the commands.
debian_may_install() {
    command -v apt-get >/dev/null 2>&1 || return 1
    if [ "$(id -u)" = 0 ]; then
        return 0
    fi
    sudo -n true >/dev/null 2>&1
}

debian_as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# debian_install PACKAGE...: install without questions and without starting any service of theirs.
debian_install() {
    debian_may_install || return 1
    printf 'Installing from Debian: %s\n' "$*" >&2
    # The documented way to keep a package from starting its service (deb-systemd-invoke(1p), exit code 101).
    # An existing policy is the administrator's and stays.
    policy=/usr/sbin/policy-rc.d
    ours=no
    if [ ! -e "$policy" ]; then
        ours=yes
        printf '#!/bin/sh\nexit 101\n' | debian_as_root tee "$policy" >/dev/null &&
            debian_as_root chmod 755 "$policy" || return 1
    fi
    result=0
    {
        debian_as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q &&
            debian_as_root env DEBIAN_FRONTEND=noninteractive \
                apt-get install -y -q --no-install-recommends "$@"
    } </dev/null >&2 || result=1
    if [ "$ours" = yes ]; then
        debian_as_root rm -f "$policy"
    fi
    return "$result"
}
