#!/bin/bash
# SPDX-License-Identifier: MIT
# What try.sh runs in the clean root, where the packages are in /packages: install, use, remove.
set -euo pipefail

fail() {
    printf 'FAILED: %s\n' "$*"
    [ ! -d /run/systemd/system ] || journalctl -q --no-pager -n 60 || true
    exit 1
}
say() { printf -- '-- %s\n' "$*"; }
packages=(remofs remofile remofile-server libremofile0 python3-remofile remofile-doc)
apt=(apt-get -q -y -o Dpkg::Use-Pty=0 --no-install-recommends)

# All that could be left behind: not what apt, dpkg, mount, useradd and systemd keep for themselves, nor what is mounted.
list_root() {
    find / -xdev '(' -path /packages -o -path /proc -o -path /sys -o -path /dev -o -path /ccache -o -path /tmp -o -path /run/mount \
        -o -path /run/systemd -o -path /var/cache -o -path /var/lib/apt -o -path /var/lib/dpkg -o -path /var/lib/systemd -o -path /var/log \
        -o -path '/etc/*-' -o -path /etc/resolv.conf ')' -prune -o -print | sort
}
left() { comm -13 "/packages/$1.txt" <(list_root); }

eventually() {
    local tries
    for ((tries = 0; tries < 300; ++tries)); do
        if "$@"; then
            return 0
        fi
        sleep 0.1
    done
    fail "waited in vain for: $*"
}

install() {
    say 'install, with what they depend on there already'
    # So that the list of files shows what these packages bring, and no other.
    mapfile -t needed < <(cd /packages && "${apt[@]}" -s install ./*.deb | sed -n 's/^Inst \([^ ]*\).*/\1/p' | grep -v 'remof')
    "${apt[@]}" install "${needed[@]}" systemd mount >/dev/null
    list_root >/packages/before.txt
    (cd /packages && "${apt[@]}" install ./remo*.deb ./libremofile0_*.deb ./python3-*.deb >/dev/null)
    [ "$(dpkg-query -W -f '${db:Status-Status}\n' "${packages[@]}" | sort -u)" = installed ] || fail 'not all are installed'
    dpkg --verify "${packages[@]}"

    say 'programs, manual pages, accounts'
    remofs --version
    remofile --version
    remofile-server --version
    [ "$(readlink -f /sbin/mount.remofs /sbin/mount.fuse.remofs | uniq)" = /usr/bin/remofs ] || fail 'no mount.remofs'
    id remofile
    [ "$(stat -c '%U %a' /var/lib/remofile-server)" = 'remofile 700' ] || fail 'the directory of the keys'

    say 'units'
    mkdir -p /srv/files
    local examples=/usr/share/doc/remofs/examples
    # Only complaints about these units count.
    local complaints
    complaints=$(
        systemd-analyze verify --man=no 'remofile-server@srv-files.service' 'remofile-server-users@srv-files.service' \
            "$examples/mnt-files.mount" "$examples/mnt-files.automount" 2>&1
        XDG_RUNTIME_DIR=/tmp systemd-analyze verify --man=no --user 'remofile-server@srv-files.service' 'remofs@somewhere.service' 2>&1
    ) || fail "systemd-analyze verify: $complaints"
    if grep -E 'remof|mnt-files' <<<"$complaints"; then
        fail 'systemd-analyze verify complains'
    fi
    systemd-analyze security --no-pager --offline=true 'remofile-server@srv-files.service' 2>/dev/null | tail -n 1
    systemd-analyze security --no-pager --offline=true 'remofile-server-users@srv-files.service' 2>/dev/null | tail -n 1
}

# A server as the unit would start it, without systemd: the same account, directory of keys and command line.
start_server() {
    chown remofile: /srv/files
    setpriv --reuid=remofile --regid=remofile --clear-groups env REMOFILE_CONFIG_DIR=/var/lib/remofile-server \
        remofile-server --authorized-keys /etc/remofile-server/authorized_keys --listen 'tcp://*:6768' /srv/files >/tmp/server.log 2>&1 &
    server=$!
    eventually grep -q 'listening on' /tmp/server.log
}

use() {
    say 'keys'
    remofile generate-keys >/dev/null
    cp /etc/remofile/identity.pub /etc/remofile-server/authorized_keys
    start_server
    echo "localhost:6768 $(cat /var/lib/remofile-server/server.pub)" >/etc/remofile/known_servers

    local type tree=/usr/share/perl5
    [ -d "$tree" ] || tree=/usr/share/doc
    for type in remofs fuse.remofs; do
        say "a line of fstab, of the type $type"
        echo "localhost:/ /mnt $type _netdev,nosuid,nodev,allow_other 0 0" >/etc/fstab
        mount -f /mnt || fail 'mount -f'
        ! grep -q ' /mnt ' /proc/mounts || fail 'mount -f has mounted'
        mount -a -t "$type" || fail 'mount -a'
        mount -a -t "$type" || fail 'mount -a once more'
        [ "$(grep -c ' /mnt fuse.remofs .*nosuid,nodev' /proc/mounts)" = 1 ] || fail "mounted: $(grep mnt /proc/mounts)"
        cp -r "$tree" /mnt/tree
        diff -r "$tree" /mnt/tree
        diff -r "$tree" /srv/files/tree
        ls -lR /mnt/tree >/dev/null
        cp /bin/bash "/mnt/a shell"
        cmp /bin/bash "/mnt/a shell"
        mount -o remount,ro /mnt
        ! touch /mnt/no 2>/dev/null || fail 'written to after remount,ro'
        mount -o remount,rw /mnt
        rm -r /mnt/tree
        umount /mnt
        ! ls "/mnt/a shell" 2>/dev/null || fail 'still there without the mount'
    done
    say 'what mount(8) does not know'
    ! mount -t remofs -o nonsense localhost:/ /mnt || fail 'mounted with nonsense'
    mount -t remofs -s -o nonsense localhost:/ /mnt
    umount /mnt

    say 'by a user'
    useradd -m alice
    su alice -c 'remofile generate-keys >/dev/null; mkdir ~/there'
    cat /home/alice/.config/remofile/identity.pub >>/etc/remofile-server/authorized_keys
    cp /etc/remofile/known_servers /home/alice/.config/remofile/
    chmod 644 /home/alice/.config/remofile/known_servers
    echo 'localhost:/ /home/alice/there remofs _netdev,noauto,user,nosuid,nodev 0 0' >/etc/fstab
    # shellcheck disable=SC2016 # her home
    su alice -c 'set -e; mount ~/there; cmp "$HOME/there/a shell" /bin/bash; fusermount3 -u ~/there'

    say 'libremofile and Python'
    echo hello >/srv/files/hello
    local program
    for program in /packages/programs/*; do
        [ ! -x "$program" ] || [ "$("$program" localhost:/ hello)" = hello ] || fail "$program"
    done
    [ "$(python3 -c 'import remofile; print(remofile.open("localhost:/hello").read(), end="")')" = hello ] || fail 'python3-remofile'

    say 'upgrade under a mount'
    mount -t remofs localhost:/ /mnt
    exec 3<"/mnt/a shell"
    (cd /packages/next && "${apt[@]}" install ./remo*.deb ./libremofile0_*.deb ./python3-*.deb >/dev/null)
    [ "$(dpkg-query -W -f '${Version}\n' "${packages[@]}" | sed 's/.*-//' | sort -u)" = 99 ] || fail 'not all are upgraded'
    cmp /bin/bash - <&3
    exec 3<&-
    cmp /bin/bash "/mnt/a shell"
    say 'and on with the new ones'
    kill "$server"
    wait "$server" || fail "the server's end"
    start_server
    cmp /bin/bash "/mnt/a shell"
    umount /mnt
    kill "$server"
    wait "$server" || fail "the server's end"
    userdel -r alice 2>/dev/null
    rm -rf /etc/fstab /srv/files/*
}

# Beneath a systemd that is process 1 of this root.
units() {
    say 'the server as a unit'
    mkdir -p /srv/files
    chown remofile: /srv/files
    echo '127.0.0.1 localhost server.example' >/etc/hosts
    systemctl enable --now 'remofile-server@srv-files.service' || fail 'it does not start'
    remofile-server --version
    echo "server.example:6768 $(cat /var/lib/remofile-server/server.pub)" >/etc/remofile/known_servers
    journalctl -q --no-pager -o cat -u 'remofile-server@srv-files.service'
    # As the account and sandbox may: what the server says of it would be a warning.
    ! journalctl -q --no-pager -o cat -u 'remofile-server@srv-files.service' | grep -E ' (warning|error): ' || fail 'the server warns'
    local pid
    pid=$(systemctl show -P MainPID 'remofile-server@srv-files.service')
    ! nsenter -t "$pid" -m -r touch /etc/written 2>/dev/null || fail 'the server could write to /etc'
    nsenter -t "$pid" -m -r touch /srv/files/written

    say 'a mount unit'
    cp /usr/share/doc/remofs/examples/mnt-files.mount /usr/share/doc/remofs/examples/mnt-files.automount /etc/systemd/system
    systemctl daemon-reload
    systemctl start mnt-files.mount
    grep -q ' /mnt/files fuse.remofs ' /proc/mounts || fail 'not mounted'
    cp /bin/bash /mnt/files/shell
    cmp /bin/bash /srv/files/shell
    mkdir /mnt/files/shared
    chmod 2775 /mnt/files/shared
    [ "$(stat -c %a /srv/files/shared)" = 2775 ] || fail 'the set-id bit is lost'
    ls /mnt/files >/dev/null
    echo changed >/srv/files/from-there
    eventually test -e /mnt/files/from-there

    say 'a restart of the server under the mount'
    systemctl restart 'remofile-server@srv-files.service'
    cmp /bin/bash /mnt/files/shell
    systemctl reload 'remofile-server@srv-files.service'
    systemctl stop mnt-files.mount
    if [ -e /dev/autofs ]; then
        say 'an automount unit'
        systemctl start mnt-files.automount
        cmp /bin/bash /mnt/files/shell
        systemctl stop mnt-files.automount mnt-files.mount
    fi
    systemctl disable --now 'remofile-server@srv-files.service'

    say "the server as the clients' users"
    chown root: /srv/files
    chmod 1777 /srv/files
    systemctl start 'remofile-server-users@srv-files.service'
    journalctl -q --no-pager -o cat -u 'remofile-server-users@srv-files.service'
    echo "server.example:6768 $(cat /var/lib/remofile-server-users/server.pub)" >/etc/remofile/known_servers
    systemctl start mnt-files.mount
    setpriv --reuid=12345 --regid=12346 --clear-groups sh -c 'echo mine >/mnt/files/mine; chmod 4755 /mnt/files/mine'
    [ "$(stat -c '%u %g %a' /srv/files/mine)" = '12345 12346 4755' ] || fail "$(ls -ln /srv/files)"
    touch /mnt/files/of-root
    [ "$(stat -c %u /srv/files/of-root)" = 65534 ] || fail 'root is not nobody'
    ls /mnt/files >/dev/null
    echo changed >/srv/files/from-there-too
    eventually test -e /mnt/files/from-there-too
    systemctl stop mnt-files.mount 'remofile-server-users@srv-files.service'
    systemctl reset-failed
    rm -rf /srv/files /etc/systemd/system/mnt-files.* /mnt/files /etc/hosts
}

remove() {
    rm -rf /srv/files
    say 'remove'
    "${apt[@]}" remove "${packages[@]}" >/dev/null
    # Root's own keys, which root has made, are there as long as root likes.
    left before | grep -v '^/etc/remofile\(/\|$\)' >/packages/removed.txt || true
    if grep -v '^/etc/remofile-server\|^/var/lib/remofile-server' /packages/removed.txt; then
        fail 'left after remove'
    fi
    for kept in /etc/remofile-server/authorized_keys /var/lib/remofile-server/server.key; do
        [ -e "$kept" ] || fail "remove has taken $kept"
    done
    say 'purge'
    # apt no longer knows those that have left nothing.
    dpkg --purge "${packages[@]}" 2>&1 | grep -v 'which isn.t installed' || true
    rm -r /etc/remofile
    if left before | grep .; then
        fail 'left after purge'
    fi
    ! ls /var/lib/dpkg/info/*remof* 2>/dev/null || fail 'dpkg still knows the packages'
}

case ${1:-} in
install | use | units | remove) "$1" ;;
*) fail "usage: $0 install|use|units|remove" ;;
esac
