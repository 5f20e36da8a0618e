#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Tries the packages in a clean root of Debian 12 or 13: builds them there from the source package, and in another root
# that has nothing else installs, uses, upgrades, removes and purges them (try_inside.sh): ./dev package --try
#
# usage: try.sh RELEASE DIRECTORY [PACKAGES]
#
# As root. DIRECTORY keeps packages, base systems and ccache's cache for the next time. With a directory of PACKAGES, those
# are tried and none are built; the examples of the library are then left out.
#
# DEB_BUILD_OPTIONS is passed on: "noopt" builds faster. What is mounted in the roots is mounted in a mount namespace of
# each command's own, and its processes end with it.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

fail() {
    printf 'try.sh: %s\n' "$*" >&2
    exit 1
}
say() { printf '== %s\n' "$*"; }

[ $# -eq 2 ] || [ $# -eq 3 ] || fail 'usage: try.sh RELEASE DIRECTORY [PACKAGES]'
[ "$(id -u)" -eq 0 ] || fail 'making a root needs root'
case $1 in
12) suite=bookworm ;;
13) suite=trixie ;;
*) fail "there is no release $1 here: 12 or 13" ;;
esac
packages=${3:+$(cd "$3" && pwd)}
mkdir -p "$2/$suite" "$2/cache/ccache-$suite"
out=$(cd "$2/$suite" && pwd)
cache=$(cd "$2/cache" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/remofs-try-XXXXXX")

# Never where something is still mounted: what is below a mount is somebody else's.
clean_up() {
    if grep -q " $work" /proc/mounts; then
        printf 'try.sh: something is still mounted in %s: unmount it and remove that directory\n' "$work" >&2
        return 1
    fi
    rm -rf --one-file-system "$work"
}
trap clean_up EXIT
trap 'exit 1' HUP INT TERM

# Runs a command in a root, with /dev, /proc and /sys of its own, and in a network of its own after --offline. With --boot
# systemd is what is run.
enter() {
    local network=() boot=''
    case $1 in
    --offline)
        network=(--net)
        shift
        ;;
    --boot)
        network=(--net --cgroup --ipc --uts)
        boot=yes
        shift
        ;;
    esac
    # shellcheck disable=SC2016 # what is within the quotes is for the shell that they start
    unshare --mount --propagation private --pid --fork --kill-child "${network[@]}" bash -euc '
        root=$1 cache=$2 boot=$3
        shift 3
        # Up in a network of its own, and everywhere else already.
        ip link set lo up
        mount --bind "$root" "$root"
        mount -t tmpfs -o mode=755 tmpfs "$root/dev"
        for device in "null 1 3" "zero 1 5" "full 1 7" "random 1 8" "urandom 1 9" "tty 5 0" "fuse 10 229"; do
            read -r name major minor <<<"$device"
            mknod -m 666 "$root/dev/$name" c "$major" "$minor"
        done
        [ ! -e /dev/autofs ] || mknod -m 600 "$root/dev/autofs" c 10 "$((16#$(stat -c %T /dev/autofs)))"
        ln -s /proc/self/fd "$root/dev/fd"
        mkdir "$root/dev/pts" "$root/dev/shm"
        mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
        ln -s pts/ptmx "$root/dev/ptmx"
        mount -t tmpfs tmpfs "$root/dev/shm"
        mount -t proc proc "$root/proc"
        mount -t sysfs -o ro sysfs "$root/sys"
        mkdir -p "$root/ccache"
        mount --bind "$cache" "$root/ccache"
        cp -L /etc/resolv.conf "$root/etc/resolv.conf"
        if [ -n "$boot" ]; then
            mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
            mount -t tmpfs -o mode=755 tmpfs "$root/run"
            exec chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin container=remofs-try \
                /lib/systemd/systemd --log-target=console --unit=remofs-try.service
        fi
        exec chroot "$root" /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
            LANG=C.UTF-8 TERM=dumb DEBIAN_FRONTEND=noninteractive CCACHE_DIR=/ccache DEB_BUILD_OPTIONS="$DEB_BUILD_OPTIONS" "$@"
    ' enter "$1" "$2" "$boot" "${@:3}" </dev/null
}
export DEB_BUILD_OPTIONS=${DEB_BUILD_OPTIONS:-}
apt='apt-get -q -y -o Dpkg::Use-Pty=0 --no-install-recommends'

base=$cache/$suite.tar
if [ ! -e "$base" ]; then
    say "debootstrap of $suite"
    unshare --mount --propagation private debootstrap --variant=minbase "$suite" "$work/base" >"$out/debootstrap.log" 2>&1 ||
        fail "debootstrap failed: $out/debootstrap.log"
    tar -C "$work/base" --numeric-owner --one-file-system -cf "$base.new" .
    mv "$base.new" "$base"
    rm -rf --one-file-system "$work/base"
fi
unpack() {
    mkdir "$1"
    tar -C "$1" --numeric-owner -xpf "$base"
    enter "$1" "$cache/ccache-$suite" sh -euc "apt-get -q update && $apt upgrade" >>"$out/apt.log" 2>&1 || fail "apt failed: $out/apt.log"
}

rm -f "$out"/*.log
build() {
    say 'building'
    "$here/build.sh" --source "$out/source" >"$out/source.log" 2>&1 || fail "no source package: $out/source.log"
    unpack "$work/build"
    mkdir "$work/build/build"
    cp "$out"/source/*.dsc "$out"/source/*.tar.xz "$work/build/build"
    enter "$work/build" "$cache/ccache-$suite" sh -euc "
        cd /build
        $apt install build-essential ccache lintian
        $apt build-dep ./*.dsc
        dpkg-source -x ./*.dsc
        cd remofs-*/
        dpkg-buildpackage -us -uc -b" >"$out/build.log" 2>&1 || fail "the packages cannot be built: $out/build.log"
    rm -f "$out"/*.deb
    cp "$work"/build/build/*.deb "$out"
    say 'lintian'
    enter "$work/build" "$cache/ccache-$suite" sh -euc 'cd /build && lintian --allow-root --fail-on error,warning ./*.changes' | tee "$out/lintian.txt"
    say 'the library, in the root that has a compiler'
    enter "$work/build" "$cache/ccache-$suite" sh -euc "
        cd /build
        $apt install pkgconf ./libremofile0_*.deb ./libremofile-dev_*.deb >/dev/null
        cc -o cat_c /usr/share/doc/libremofile-dev/examples/cat.c \$(pkg-config --cflags --libs remofile)
        c++ -std=c++23 -o cat_cpp /usr/share/doc/libremofile-dev/examples/cat.cpp \$(pkg-config --cflags --libs remofile)" || fail 'examples do not compile'
    cp "$work"/build/build/cat_c "$work"/build/build/cat_cpp "$work/programs"
    rm -rf --one-file-system "$work/build"
}
mkdir "$work/programs"
if [ -z "$packages" ]; then
    build
    packages=$out
fi

say 'a clean root'
unpack "$work/clean"
mkdir "$work/clean/packages" "$work/clean/packages/next"
cp "$packages"/*.deb "$work/clean/packages"
cp -r "$work/programs" "$work/clean/packages"
rm -f "$work"/clean/packages/*-dbgsym_*
cp "$here/try_inside.sh" "$work/clean/packages"
# The same once more, as the next version.
for package in "$work"/clean/packages/*.deb; do
    dpkg-deb -R "$package" "$work/next"
    sed -i 's/^\(Version: .*-\).*/\199/; /^Depends:/s/\(libremofile0 (= [^)]*-\)[^)-]*)/\199)/' "$work/next/DEBIAN/control"
    dpkg-deb --root-owner-group -Zgzip -z1 -b "$work/next" "$work/clean/packages/next" >/dev/null
    rm -rf "$work/next"
done
# The units, beneath a systemd of the root's own: in a control group that goes with it.
boot() {
    local group status=0
    group=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)/remofs-try-$$
    if ! mkdir "$group" 2>/dev/null; then
        echo 'no units tried: there is no control group (version 2) to be had'
        return 0
    fi
    printf '%s\n' '[Unit]' 'Requires=basic.target' 'After=basic.target' 'SuccessAction=exit-force' 'FailureAction=exit-force' \
        '[Service]' 'Type=oneshot' 'TimeoutStartSec=300' 'Environment=LANG=C.UTF-8 HOME=/root' 'ExecStart=/packages/try_inside.sh units' \
        'StandardOutput=file:/packages/units.log' 'StandardError=file:/packages/units.log' >"$1/etc/systemd/system/remofs-try.service"
    : >"$1/packages/units.log"
    (
        echo "$BASHPID" >"$group/cgroup.procs"
        enter --boot "$1" "$cache/ccache-$suite"
    ) >"$out/systemd.log" 2>&1 || status=$?
    cat "$1/packages/units.log"
    rm "$1/etc/systemd/system/remofs-try.service"
    # The processes of the name space are gone once the kernel has said so.
    local tries
    for ((tries = 0; tries < 100; ++tries)); do
        find "$group" -depth -type d -exec rmdir {} + 2>/dev/null && break
        sleep 0.1
    done
    return "$status"
}
inside() {
    enter "$@" 2>&1 | tee -a "$out/try.log"
}
inside "$work/clean" "$cache/ccache-$suite" /packages/try_inside.sh install || fail "see $out/try.log"
inside --offline "$work/clean" "$cache/ccache-$suite" /packages/try_inside.sh use || fail "see $out/try.log"
boot "$work/clean" 2>&1 | tee -a "$out/try.log" || fail "see $out/try.log"
inside --offline "$work/clean" "$cache/ccache-$suite" /packages/try_inside.sh remove || fail "see $out/try.log"
say "Debian $1: all well; packages and logs are in $out"
