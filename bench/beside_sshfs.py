#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measures remofs beside sshfs over loopback, both encrypted, each run on a fresh mount (cold client cache).

usage: beside_sshfs.py BUILD-DIRECTORY [--runs N] [--mebibytes N] [--json FILE]

Medians of the runs; the two take turns within each run, so that both see the same weather. Without sshfs or sshd only
remofs is measured.
"""
import argparse
import getpass
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

DIRECTORIES, FILES_PER_DIRECTORY = 100, 20
BLOCK = 1 << 20


def run(*command, **more):
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, **more)


def wait_until(what, condition, timeout_s=20):
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"beside_sshfs.py: no {what} within {timeout_s} s")
        time.sleep(0.02)


def connects(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Mount:
    """Something that mounts `files` at `mountpoint`, again and again."""

    def __init__(self, home, files):
        self.home, self.files = home, files
        self.mountpoint = os.path.join(home, "mnt-" + self.name)
        os.mkdir(self.mountpoint)
        self.server = None

    def unmount(self):
        run("fusermount3", "-u", self.mountpoint)

    def stop(self):
        if os.path.ismount(self.mountpoint):
            run("fusermount3", "-uz", self.mountpoint)
        if self.server:
            self.server.terminate()
            self.server.wait(20)


class Remofs(Mount):
    name = "remofs"

    def __init__(self, home, files, build):
        super().__init__(home, files)
        self.build = build
        config = os.path.join(home, "config")
        os.mkdir(config, 0o700)
        self.environment = dict(os.environ, REMOFILE_CONFIG_DIR=config)
        self.log = os.path.join(home, "remofile-server.log")
        with open(self.log, "wb") as log:
            command = [f"{build}/server/remofile-server", "--listen", "tcp://127.0.0.1:0", files]
            self.server = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment
            )
        wait_until("remofile-server", lambda: self.port() is not None)

    def port(self):
        with open(self.log, encoding="utf-8") as log:
            found = re.search(r"listening on tcp://\S+:(\d+)", log.read())
        return found and found[1]

    def mount(self):
        run(f"{self.build}/remofs/remofs", f"localhost:{self.port()}:/", self.mountpoint, env=self.environment)


class Sshfs(Mount):
    name = "sshfs"

    def __init__(self, home, files):
        super().__init__(home, files)
        for key in ("host", "user"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{home}/{key}")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        with open(f"{home}/sshd_config", "w", encoding="utf-8") as config:
            config.write(
                f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {home}/host\nAuthorizedKeysFile {home}/user.pub\n"
                "StrictModes no\nUsePAM no\nPidFile none\nPasswordAuthentication no\nPermitRootLogin yes\n"
                "Subsystem sftp /usr/lib/openssh/sftp-server\n"
            )
        if os.getuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)
        with open(f"{home}/sshd.log", "wb") as log:
            self.server = subprocess.Popen(
                ["/usr/sbin/sshd", "-D", "-e", "-f", f"{home}/sshd_config"], stdin=subprocess.DEVNULL, stderr=log
            )
        wait_until("sshd", lambda: connects(self.port))

    def mount(self):
        options = (
            f"port={self.port},IdentityFile={self.home}/user,IdentitiesOnly=yes,StrictHostKeyChecking=no,"
            "UserKnownHostsFile=/dev/null,LogLevel=ERROR"
        )
        run("sshfs", f"{getpass.getuser()}@127.0.0.1:{self.files}", self.mountpoint, "-o", options)


def timed(work, *arguments):
    started = time.monotonic()
    work(*arguments)
    return time.monotonic() - started


def write_large(mountpoint, _, mebibytes):
    block = os.urandom(BLOCK)
    with open(f"{mountpoint}/large", "wb", buffering=0) as file:
        for _ in range(mebibytes):
            file.write(block)
        os.fsync(file.fileno())


def read_large(mountpoint, *_):
    with open(f"{mountpoint}/large", "rb", buffering=0) as file:
        while file.read(BLOCK):
            pass


def list_tree(mountpoint, *_):
    run("find", f"{mountpoint}/tree", "-ls", stdout=subprocess.DEVNULL)


def read_tree(mountpoint, *_):
    run("tar", "-C", mountpoint, "-cf", "-", "tree", stdout=subprocess.DEVNULL)


def write_tree(mountpoint, home, _):
    run("tar", "-C", f"{mountpoint}/unpacked", "-xf", f"{home}/tree.tar")


TASKS = (
    ("sequential write and fsync", write_large),
    ("sequential read", read_large),
    ("find -ls of 2,000 files", list_tree),
    ("tar c of 2,000 files", read_tree),
    ("tar x of 2,000 files", write_tree),
)


def make_tree(files, home):
    for directory in range(DIRECTORIES):
        path = f"{files}/tree/d{directory}"
        os.makedirs(path)
        for number in range(FILES_PER_DIRECTORY):
            with open(f"{path}/f{number}", "wb") as file:
                file.write(os.urandom(1024 + 37 * number))
    run("tar", "-C", f"{files}/tree", "-cf", f"{home}/tree.tar", ".")


def measure(mounts, home, files, runs, mebibytes):
    seconds = {task: {mount.name: [] for mount in mounts} for task, _ in TASKS}
    for number in range(runs):
        for task, work in TASKS:
            for mount in mounts if number % 2 == 0 else reversed(mounts):
                unpacked = f"{files}/unpacked"
                os.mkdir(unpacked)
                mount.mount()
                try:
                    seconds[task][mount.name].append(timed(work, mount.mountpoint, home, mebibytes))
                finally:
                    mount.unmount()
                shutil.rmtree(unpacked)
    return seconds


def report(seconds, names, mebibytes):
    rows = []
    for task, by_name in seconds.items():
        row = {"task": task, "seconds": {name: statistics.median(by_name[name]) for name in names}, "runs": by_name}
        if task.startswith("sequential"):
            row["mib_per_s"] = {name: mebibytes / row["seconds"][name] for name in names}
        if "sshfs" in names:
            row["times_sshfs"] = row["seconds"]["sshfs"] / row["seconds"]["remofs"]
        rows.append(row)
    print(f"\n{'median of ' + str(len(next(iter(seconds.values()))['remofs'])) + ' runs':<30}", end="")
    print("".join(f"{name:>14}" for name in names) + ("  remofs is" if "sshfs" in names else ""))
    for row in rows:
        print(f"{row['task']:<30}" + "".join(f"{row['seconds'][name]:>12.3f} s" for name in names), end="")
        print(f"{row['times_sshfs']:>10.2f} x" if "times_sshfs" in row else "", end="")
        if "mib_per_s" in row:
            print("   (" + ", ".join(f"{name} {row['mib_per_s'][name]:.0f} MiB/s" for name in names) + ")", end="")
        print()
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--mebibytes", type=int, default=256, help="size of the large file")
    parser.add_argument("--json", help="where to write the figures")
    options = parser.parse_args()

    home = tempfile.mkdtemp(prefix="remofs-bench-")
    files = os.path.join(home, "files")
    os.mkdir(files)
    mounts = []
    try:
        make_tree(files, home)
        mounts.append(Remofs(home, files, os.path.abspath(options.build)))
        if shutil.which("sshfs") and os.path.exists("/usr/sbin/sshd"):
            mounts.append(Sshfs(home, files))
        else:
            print("sshfs or sshd is missing: remofs is measured alone")
        seconds = measure(mounts, home, files, options.runs, options.mebibytes)
        rows = report(seconds, [mount.name for mount in mounts], options.mebibytes)
        if options.json:
            with open(options.json, "w", encoding="utf-8") as file:
                json.dump({"mebibytes": options.mebibytes, "cores": os.cpu_count(), "tasks": rows}, file, indent=1)
            print(f"\nAll figures: {options.json}")
    finally:
        for mount in mounts:
            mount.stop()
        shutil.rmtree(home)


if __name__ == "__main__":
    main()
