#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measures remofile put and get beside scp, rsync and tar through ssh, on the same files, on loopback and over emulated links.

In each round every program does every work once, in turn, encrypted, to an empty place. Over the links one plain TCP
connection carries the same file for comparison. Prints medians and ratios.
"""
import argparse
import contextlib
import getpass
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time

from beside_sshfs import missing_for_sshfs, on_stop_signal, place_for_files, say, STOP_SIGNALS
from file_systems import Remofs, Sshfs
from links import EmulatedLink, Loopback, tcp_stream_seconds
from processes import Failed, run
from targets import LINK_HELP, LINK_NAMES, LINKS, LOSSY_LINKS, USUAL_LINK_NAMES
from tree_workloads import TREE_FILES
from workloads import Data


class Ends:
    """Where files come from and go to on both sides, and how each program is told."""

    def __init__(self, link, home, data, build):
        self.link, self.data = link, data
        self.remofile_server = Remofs("remofs", home, data.files, link, build)
        self.ssh_server = Sshfs("sshfs", home, data.files, link)
        self.build = build
        self.local = os.path.join(home, "local")

    def start(self, stack):
        for server in (self.remofile_server, self.ssh_server):
            stack.callback(server.close)
            server.start_server()

    def remofile(self, command, *arguments):
        options = [f"--server-key={self.remofile_server.config}/server.pub", "-q"]
        return self.link.at_client([f"{self.build}/cli/remofile", command, *options, *arguments])

    def source(self, path):
        return f"{self.link.server_address}:{self.remofile_server.port()}:/{path}"

    def ssh_options(self):
        return ["-i", f"{self.ssh_server.home}/user", "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no",
                "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]

    def ssh(self):
        return " ".join(["ssh", "-p", str(self.ssh_server.port), *self.ssh_options()])

    def host(self):
        return f"{getpass.getuser()}@{self.link.server_address}"

    def remote(self, path):
        return f"{self.host()}:{self.data.files}/{path}"

    def timed(self, command):
        started = time.monotonic()
        run(command, self.data.deadline_s(), env=self.remofile_server.environment())
        return time.monotonic() - started

    # Each takes what is to be copied (a name in `files` or `local`) to "written" on the other side.

    def remofile_put(self, name, *options):
        return self.timed(self.remofile("put", *options, f"{self.local}/{name}", self.source("written")))

    def remofile_get(self, name, *options):
        return self.timed(self.remofile("get", *options, self.source(name), f"{self.local}/written"))

    def scp(self):
        return ["scp", "-q", "-P", str(self.ssh_server.port), *self.ssh_options()]

    def scp_put(self, name):
        return self.timed(self.link.at_client([*self.scp(), f"{self.local}/{name}", self.remote("written")]))

    def scp_get(self, name):
        return self.timed(self.link.at_client([*self.scp(), self.remote(name), f"{self.local}/written"]))

    def rsync_put(self, name):
        return self.timed(self.link.at_client(["rsync", "-e", self.ssh(), f"{self.local}/{name}", self.remote("written")]))

    def rsync_get(self, name):
        return self.timed(self.link.at_client(["rsync", "-e", self.ssh(), self.remote(name), f"{self.local}/written"]))

    def tar_put(self, name):
        there = f"mkdir {self.data.files}/written && tar -C {self.data.files}/written -x"
        pipe = f"tar -C {self.local}/{name} -c . | {self.ssh()} {self.host()} '{there}'"
        return self.timed(self.link.at_client(["sh", "-c", pipe]))

    def tar_get(self, name):
        os.mkdir(f"{self.local}/written")
        pipe = f"{self.ssh()} {self.host()} 'tar -C {self.data.files}/{name} -c .' | tar -C {self.local}/written -x"
        return self.timed(self.link.at_client(["sh", "-c", pipe]))

    def stream(self, direction, name):
        path = f"{self.data.files}/{name}"
        return tcp_stream_seconds(self.link, direction, path, self.data.deadline_s())

    def remove_results(self):
        for path in (f"{self.local}/written", f"{self.data.files}/written"):
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                os.unlink(path)
            shutil.rmtree(path, ignore_errors=True)

    def check(self, name):
        """That what has arrived is what was sent."""
        here, there = f"{self.local}/written", f"{self.data.files}/written"
        copy = here if os.path.exists(here) else there
        run(["diff", "-r", f"{self.data.files}/{name}", copy], self.data.deadline_s())


def rows(link):
    """Title, what is copied, and how each program does it."""
    for direction in ("put", "get"):
        def way(method, name, *more, direction=direction):
            return lambda ends: getattr(ends, f"{method}_{direction}")(name, *more)

        file = {"remofile": way("remofile", "random.bin"), "scp": way("scp", "random.bin"), "rsync": way("rsync", "random.bin")}
        text = {"remofile -z": way("remofile", "text.txt", "-z")}
        tree = {"remofile": way("remofile", "tree"), "tar | ssh": way("tar", "tree")}
        if link.emulated:
            stream = "write" if direction == "put" else "read"
            for programs, name in ((file, "random.bin"), (text, "text.txt")):
                programs["TCP"] = lambda ends, stream=stream, name=name: ends.stream(stream, name)
            yield f"{direction} text", "text.txt", text
        yield f"{direction} a file", "random.bin", file
        yield f"{direction} {TREE_FILES} small files", "tree", tree


def measure_link(options, link, home, mebibytes, results):
    files = tempfile.mkdtemp(prefix="files-", dir=home)
    data = Data(files, home, mebibytes)
    say(f"{link.title}: making the files")
    data.make(with_tree=True)
    ends = Ends(link, home, data, options.build)
    os.makedirs(ends.local)
    for name in ("random.bin", "text.txt", "tree"):
        run(["cp", "-r", f"{files}/{name}", ends.local])
    with contextlib.ExitStack() as stack:
        ends.start(stack)
        for number in range(options.rounds):
            for title, name, programs in rows(link):
                say(f"{link.title}, round {number + 1} of {options.rounds}: {title}")
                turns = list(programs.items())
                for program, copy in turns if number % 2 == 0 else reversed(turns):
                    seconds = copy(ends)
                    if program != "TCP":
                        ends.check(name)
                    ends.remove_results()
                    results.setdefault((link.title, title), {}).setdefault(program, []).append(seconds)
    shutil.rmtree(files)
    shutil.rmtree(ends.local)


def tell(results):
    for (link, title), programs in results.items():
        medians = {program: statistics.median(seconds) for program, seconds in programs.items()}
        ours = next(iter(medians.values()))
        text = ", ".join(f"{program} {seconds:.2f} s" + ("" if seconds == ours else f" ({seconds / ours:.2f}x)")
                         for program, seconds in medians.items())
        say(f"{link}: {title}: {text}")


def parse_arguments():
    parser = argparse.ArgumentParser(prog="./dev bench transfers", description=__doc__.splitlines()[0])
    parser.add_argument("build", help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mebibytes", type=int, default=1024, help="size of the file on loopback (1024)")
    parser.add_argument("--link-mebibytes", type=int, default=64, help="size of the file on the other links (64)")
    parser.add_argument("--link", nargs="+", choices=LINK_NAMES, default=USUAL_LINK_NAMES, metavar="NAME", help=LINK_HELP)
    parser.add_argument("--directory", help="where the files are to be; memory, if there is room, unless told otherwise")
    return parser.parse_args()


def main():
    options = parse_arguments()
    options.build, options.quick = os.path.abspath(options.build), False
    missing = missing_for_sshfs() + [name for name in ("scp", "rsync") if not shutil.which(name)]
    if missing:
        sys.exit(f"./dev bench transfers: missing: {', '.join(missing)}")
    for number in STOP_SIGNALS:
        signal.signal(number, on_stop_signal)
    home = tempfile.mkdtemp(prefix="remofs-bench-", dir=place_for_files(options))
    results = {}
    try:
        if "loopback" in options.link:
            measure_link(options, Loopback(), os.path.join(home), options.mebibytes, results)
        for name, chosen in (LINKS | LOSSY_LINKS).items():
            if name in options.link:
                with contextlib.closing(EmulatedLink(chosen, options.build)) as link:
                    below = tempfile.mkdtemp(dir=home)
                    measure_link(options, link, below, options.link_mebibytes, results)
    except Failed as reason:
        sys.exit(f"./dev bench transfers: {reason}")
    except KeyboardInterrupt:
        say("interrupted: only what was measured until then is shown")
    finally:
        shutil.rmtree(home, ignore_errors=True)
        tell(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
