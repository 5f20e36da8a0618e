#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measures remofs beside sshfs on the same files, on loopback and over emulated links.

In each round every file system does every work once, in turn, each on a fresh mount: the client's caches are cold, the
server's page cache is warm. Prints medians, ratios and targets. What cannot be measured here is said and left out.
"""
import argparse
import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile

from file_systems import SFTP_SERVER, SSHD, Local, Remofs, Sshfs
from links import EmulatedLink, Loopback, tcp_stream_seconds
from processes import Failed, run
from report import Results, plot, tables
from targets import LINK_HELP, LINK_NAMES, LINKS, LOSSY_LINKS, USUAL_LINK_NAMES
from tree_workloads import tar_over_ssh
from workloads import STREAMS, WORKLOADS, Data

FASTEST_CIPHER = "aes128-gcm@openssh.com"  # where the processor has AES instructions
CONNECTIONS = 4
FILE_SYSTEMS = ["remofs", "remofs plain", "remofs compressed", "remofs system", "sshfs", "sshfs fast"]
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def say(text):
    print(text, flush=True)


def on_stop_signal(*_):
    """Everything is taken down then, in peace."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def parse_arguments():
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__.splitlines()[0])
    parser.add_argument("build", help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=5)
    names = [workload.name for workload in WORKLOADS]
    parser.add_argument("--workload", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--file-system", nargs="+", choices=FILE_SYSTEMS, default=FILE_SYSTEMS, metavar="NAME",
                        help=", ".join(FILE_SYSTEMS))
    parser.add_argument("--link", nargs="+", choices=LINK_NAMES, default=USUAL_LINK_NAMES, metavar="NAME", help=LINK_HELP)
    parser.add_argument("--quick", action="store_true", help="small files: shows that it works, not how fast")
    parser.add_argument("--mebibytes", type=int, help="size of the file on loopback; 1024, or 64 with --quick, unless given")
    parser.add_argument("--link-mebibytes", type=int, help="size of the file on the links; 64, or 16 with --quick, unless given")
    parser.add_argument("--directory", help="where the served files are to be; memory, if there is room, unless told otherwise")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    parser.add_argument("--plots", metavar="DIRECTORY", help="write plots there, as SVG")
    return parser.parse_args()


def missing_for_sshfs():
    """What keeps sshfs from being measured, or nothing."""
    programs = [name for name in ("sshfs", "ssh", "ssh-keygen") if not shutil.which(name)]
    return programs + [path for path in (SSHD, SFTP_SERVER) if not os.path.exists(path)]


def open_file_systems(stack, home, data, link, options):
    """Those that can be had, in the order in which they take turns."""
    base = os.path.join(home, "".join(c if c.isalnum() else "-" for c in link.title))
    build = options.build
    rows = [(Remofs, "remofs", {"build": build}), (Remofs, "remofs plain", {"build": build, "insecure": True}),
            (Remofs, "remofs compressed", {"build": build, "options": ["compress=1"]})]
    # Without a congestion control of its own, which it has on links alone.
    if link.emulated:
        rows.append((Remofs, "remofs system", {"build": build, "congestion": "system"}))
    if missing := missing_for_sshfs():
        say(f"sshfs is not measured: {', '.join(missing)} missing")
    else:
        rows.append((Sshfs, "sshfs", {}))
        # A single file goes over one connection, and a slow link does not wait for the cipher: on loopback only.
        if not link.emulated:
            fast = [f"Ciphers={FASTEST_CIPHER}", "Compression=no", f"max_conns={CONNECTIONS}"]
            rows.append((Sshfs, "sshfs fast", {"options": fast}))
    file_systems = []
    for kind, name, settings in rows:
        if name not in options.file_system:
            continue
        file_system = kind(name, base, data.files, link, **settings)
        stack.callback(file_system.close)
        try:
            file_system.start_server()
            file_system.mount()
            if name == "remofs compressed" and os.path.exists(f"{data.files}/text.txt") and not compresses(file_system, data):
                raise Failed("it does not compress")
            file_system.unmount()
            file_systems.append(file_system)
        except (Failed, OSError) as reason:
            say(f"{name} is not measured over {link.title}: {reason}")
            file_system.unmount_by_force()
    return file_systems


def compresses(file_system, data):
    """True if writing text moves fewer bytes than the text has."""
    run(["dd", f"if={data.files}/text.txt", f"of={file_system.mountpoint}/written", "bs=1M", "count=4", "conv=fsync"],
        data.deadline_s())
    data.remove_results()
    return file_system.counters().get("client.bytes_sent", 0) < 3 << 20


def measure(results, link, workload, file_system, data):
    try:
        try:
            file_system.mount()
            results.add(link.title, workload.name, file_system.name, workload.measure(file_system, data))
            file_system.unmount()
        finally:
            file_system.unmount_by_force()
            data.remove_results()
    except (Failed, OSError, ValueError, KeyError) as reason:
        say(f"  failed: {link.title}, {workload.title}, {file_system.name}: {reason}")
        results.add_failure(link.title, workload.title, file_system.name, reason)


def measure_stream(results, link, workload, data):
    direction, _, kind = workload.name.partition("-")
    path = f"{data.files}/{'text.txt' if kind else 'random.bin'}"
    seconds = tcp_stream_seconds(link, direction, path, data.deadline_s())
    results.add(link.title, workload.name, "TCP", {"MiB/s": data.mebibytes / seconds})


def measure_tar_over_ssh(results, link, workload, file_systems, data):
    sshfs = next((entry for entry in file_systems if entry.name == "sshfs"), None)
    if sshfs is None:
        return
    name = "tar over ssh"
    try:
        results.add(link.title, workload.name, name, tar_over_ssh(workload.over_ssh, sshfs, data))
    except Failed as reason:
        say(f"  failed: {link.title}, {workload.title}, {name}: {reason}")
        results.add_failure(link.title, workload.title, name, reason)
    data.remove_results()


def measure_link(results, options, link, home, mebibytes):
    files = tempfile.mkdtemp(prefix="files-", dir=home)
    data = Data(files, home, mebibytes)
    workloads = [workload for workload in WORKLOADS
                 if workload.name in options.workload and (workload.on_links or not link.emulated)]
    for workload in [workload for workload in workloads if workload.needs and not shutil.which(workload.needs)]:
        say(f"{workload.name} is not measured: {workload.needs} missing")
        workloads.remove(workload)
    if not workloads:
        return
    say(f"{link.title}: making the files")
    chosen = {workload.name for workload in workloads}
    data.make(with_streams=bool(chosen & STREAMS), with_trees=bool(chosen - STREAMS))
    with contextlib.ExitStack() as stack:
        file_systems = open_file_systems(stack, home, data, link, options)
        for number in range(options.rounds):
            for workload in workloads:
                say(f"{link.title}, round {number + 1} of {options.rounds}: {workload.title}")
                local = [Local(home, files, link)] if workload.local else []
                # Text is to sshfs as any other data.
                turns = [entry for entry in file_systems
                         if not (link.emulated and entry.name == "sshfs" and workload.name.endswith("-text"))] + local
                for file_system in turns if number % 2 == 0 else reversed(turns):
                    measure(results, link, workload, file_system, data)
                if workload.on_links and workload.name in STREAMS:
                    measure_stream(results, link, workload, data)
                if workload.over_ssh:
                    measure_tar_over_ssh(results, link, workload, file_systems, data)
    shutil.rmtree(files)


def measure_all(results, options, home):
    if "loopback" in options.link:
        measure_link(results, options, Loopback(), home, options.mebibytes or (64 if options.quick else 1024))
    for name, link in (LINKS | LOSSY_LINKS).items():
        if name not in options.link:
            continue
        if os.getuid() != 0:
            say(f"The link of {link.title} is not measured: network namespaces need root")
            continue
        try:
            emulated = EmulatedLink(link, options.build)
        except (Failed, OSError) as reason:
            say(f"The link of {link.title} is not measured: {reason}")
            continue
        with contextlib.closing(emulated):
            measure_link(results, options, emulated, home, options.link_mebibytes or (16 if options.quick else 64))


def place_for_files(options):
    """Memory, so that the disk's moods are not measured, if it has room for the files twice over."""
    needed = (256 << 20) if options.quick else (6 << 30)
    if options.directory:
        return options.directory
    if os.access("/dev/shm", os.W_OK) and shutil.disk_usage("/dev/shm").free > needed:
        return "/dev/shm"
    return None


def machine():
    model = "unknown processor"
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), model)
    return {"processor": model, "cores": os.cpu_count(), "kernel": platform.release(),
            "commit": subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()}


def main():
    options = parse_arguments()
    options.build = os.path.abspath(options.build)
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        sys.exit("./dev bench: /dev/fuse is missing or may not be opened, so nothing can be mounted")
    for number in STOP_SIGNALS:
        signal.signal(number, on_stop_signal)
    results = Results()
    home = tempfile.mkdtemp(prefix="remofs-bench-", dir=place_for_files(options))
    try:
        measure_all(results, options, home)
    except KeyboardInterrupt:
        results.failures.append("interrupted: only what was measured until then is shown")
    finally:
        shutil.rmtree(home, ignore_errors=True)
        tell(results, options)
    return 1 if results.failures else 0


def tell(results, options):
    say(tables(results))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"machine": machine(), "rounds": options.rounds, **results.as_json()}, file, indent=1)
    if options.plots:
        plot(results, options.plots)


if __name__ == "__main__":
    sys.exit(main())
